"""``equiprune crystals``: structures with no data at all, the same as from Python, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from command_line import Run

import equiprune as ep
from equiprune import commands
from equiprune.cli.words import OF_ELEMENTS
from equiprune.commands.keys import keys_of


def test_crystals_writes_the_structures_of_the_api(cli: Run, tmp_path: Path) -> None:
    words = ["--elements", "Si,O", "--count", 30, "--max-atoms", 12, "--seed", 5]
    ran = cli("crystals", *words, "-o", tmp_path / "start.extxyz", "--json")
    assert ran.code == 0, ran.err
    expected = list(ep.starting_structures([14, 8], 30, seed=5, max_atoms=12))
    found = list(ep.read_structures(tmp_path / "start.extxyz"))
    assert ran.json["structures"] == len(found) == 30
    assert ran.json["written"] == str(tmp_path / "start.extxyz")
    assert sum(ran.json["kinds"].values()) == 30
    for atoms, same in zip(found, expected, strict=True):
        assert atoms.info == same.info
        assert (atoms.pbc == same.pbc).all()
        np.testing.assert_allclose(atoms.positions, same.positions, atol=1e-7)
        np.testing.assert_array_equal(atoms.numbers, same.numbers)
    text = cli("crystals", *words, "-o", tmp_path / "again.extxyz")
    assert f"Written 30 structures: {tmp_path / 'again.extxyz'}" in text.out
    assert "dimer" in text.out
    assert (tmp_path / "again.extxyz").read_bytes() == (tmp_path / "start.extxyz").read_bytes()
    made = commands.Crystals(elements="Si,O", output=tmp_path / "once.xyz", count=30, max_atoms=12, seed=5).run()
    assert made.to_json() == ran.json | {"written": str(tmp_path / "once.xyz")}
    assert (tmp_path / "once.xyz").read_bytes() == (tmp_path / "start.extxyz").read_bytes()


@pytest.mark.slow
def test_a_model_labels_them(cli: Run, tmp_path: Path) -> None:
    start, out = tmp_path / "start.extxyz", tmp_path / "out.extxyz"
    assert cli("crystals", "--elements", "Si,O,C", "--count", 40, "--max-atoms", 8, "-o", start).code == 0
    ran = cli("label", "toy", start, "-o", out, "--largest-force", 20, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["structures"] + sum(ran.json["left_out"].values()) == 40
    kinds = [atoms.info["config_type"] for atoms in ep.read_structures(out)]
    assert {"perovskite", "dimer", "random"} < set(kinds)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--elements", "Xx"], ("'Xx' is no chemical symbol",)),
        (["--elements", ","], ("--elements names each element once, and at least one",)),
        (["--elements", "Li,Li"], ("--elements names each element once",)),
        (["--elements", "Li,Cf"], ("--elements Cf have no covalent radius", "H to Cm")),
        (["--elements", "Li", "--count", 0], ("--count", "0", "1 or more")),
        (["--elements", "Li", "--max-atoms", 7], ("--max-atoms 7", "8 or more")),
        (["--elements", "Li", "--seed", -1], ("--seed", "-1")),
        ([], ("--elements",)),
    ],
)
def test_what_cannot_be_built_is_refused(
    words: list[object], says: tuple[str, ...], refused: Run, tmp_path: Path
) -> None:
    refused("crystals", *words, "-o", tmp_path / "start.extxyz", says=says)


def test_outputs_are_extxyz_and_never_overwritten(refused: Run, tmp_path: Path) -> None:
    (tmp_path / "there.xyz").write_text("precious")
    refused("crystals", "--elements", "Li", "-o", tmp_path / "start.cif", says=(".extxyz or .xyz", ".cif"))
    refused("crystals", "--elements", "Li", "-o", tmp_path / "there.xyz", says="exists and is never overwritten")


@pytest.mark.parametrize("words", [["--elements", "Si", "O"], ["--elements=Si", "O"], ["--elements", "Si,", "8"]])
def test_elements_may_be_words_of_their_own(words: list[object], cli: Run, tmp_path: Path) -> None:
    ran = cli("crystals", *words, "--count", 3, "-o", tmp_path / "start.xyz")
    assert ran.code == 0, ran.err
    assert {int(z) for atoms in ep.read_structures(tmp_path / "start.xyz") for z in atoms.numbers} <= {8, 14}


def test_a_model_may_follow_elements(cli: Run, tmp_path: Path) -> None:
    ran = cli("prune", "--elements", "O", "H", "toy", "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert cli("info", tmp_path / "out", "--json").json["elements"] == ["O", "H"]


def test_the_flags_that_name_elements_are_all_known() -> None:
    keys = {
        key.flag
        for name in ("Prune", "Crystals", "Label", "Properties")
        for key in keys_of(getattr(commands, name)).values()
    }
    assert {flag for flag in keys if flag.endswith("elements")} == set(OF_ELEMENTS)
