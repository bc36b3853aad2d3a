"""``equiprune properties``: from files to tables, gone on with after an interruption, and what is refused."""

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from command_line import Run
from toy_files import toy_model

from equiprune import commands
from equiprune.commands.options.sharing import Launched
from equiprune.evaluation.properties import measuring
from equiprune.files.shared_work import Role, Share, UnfinishedError

CRYSTALS = (bulk("Si", "diamond", a=5.4), bulk("SiC", "zincblende", a=4.4), bulk("MgO", "rocksalt", a=4.2))
"""The toy knows no Mg."""


@pytest.fixture
def crystals(tmp_path: Path) -> Path:
    for number, atoms in enumerate(CRYSTALS):
        atoms.info.update(id=f"mp-{number}", K_vrh_GPa=100.0)
    ase.io.write(tmp_path / "crystals.extxyz", CRYSTALS, format="extxyz")
    return tmp_path / "crystals.extxyz"


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    distances = np.linspace(0.5, 6, 40).tolist()
    curve = {"distances": distances, "energies": [1 / r for r in distances]}
    path = tmp_path / "curves.json"
    path.write_text(json.dumps({"PBE": {"H-H": curve, "Mg-Mg": curve}}))
    return path


def local(crystals: Path, output: Path) -> list[object]:
    return ["properties", "toy", "--data", crystals, "--properties", "locality", "-o", output]


@pytest.mark.slow
def test_models_stand_side_by_side(cli: Run, crystals: Path, curves: Path, tmp_path: Path) -> None:
    other, out = toy_model(tmp_path / "other"), tmp_path / "out"
    words = ["--data", crystals, "--properties", "locality", "dimers", "--curves", curves]
    ran = cli("properties", "toy", other, *words, "-o", out, "--json")
    assert ran.code == 0, ran.err
    locality, dimers = ran.json["properties"]
    assert (locality["structures"], locality["compared"]) == (3, 2)
    assert [lost["model"] for lost in locality["left_out"]] == ["toy", str(other)]
    assert locality["left_out"][0] == {
        "structure": "2 MgO mp-2",
        "model": "toy",
        "why": "unknown element",
        "said": "it does not know Mg",
    }
    assert locality["models"]["toy"]["extensivity"]["mean"] == pytest.approx(0, abs=1e-7)
    assert (dimers["structures"], dimers["compared"]) == (1, 1)  # of magnesium there is a curve, but no model
    energy = dimers["models"][str(other)]["energy"]
    assert energy["unit"] == "meV"
    assert energy["against"]["toy"]["mae"] == pytest.approx(0, abs=1e-6)
    assert energy["against"]["data"]["mae"] > 1
    assert "passed" not in ran.json
    assert json.loads((out / "result.json").read_text()) == ran.json


def test_people_see_units_and_what_was_left_out(cli: Run, crystals: Path, tmp_path: Path) -> None:
    ran = cli(*local(crystals, tmp_path / "out"))
    assert ran.code == 0
    assert "meV/atom" in ran.text
    assert "Over 2 of 3, the same for all models." in ran.text
    assert "Left out: 2 MgO mp-2 (toy: it does not know Mg)." in ran.text


@pytest.mark.slow
@pytest.mark.parametrize(("most", "code"), [(1e9, 0), (0.0, 1)])
def test_limits_pass_or_fail(cli: Run, curves: Path, tmp_path: Path, most: float, code: int) -> None:
    words = ["properties", "toy", "--properties", "dimers", "--elements", "H", "--curves", curves]
    ran = cli(*words, "--limits", f"dimers.energy={most}", "-o", tmp_path / "out", "--json")
    assert ran.code == code
    assert ran.json["passed"] is (code == 0)
    assert ran.json["limits"] == [
        {"property": "dimers", "quantity": "energy", "most": most, "held": code == 0},
    ]


def test_crystals_that_never_come_to_rest_are_named(cli: Run, crystals: Path, tmp_path: Path) -> None:
    words = ["properties", "toy", "--data", crystals, "--properties", "relaxation", "--steps", 1, "--sample", 2]
    ran = cli(*words, "--fmax", 1e-9, "--seed", 3, "-o", tmp_path / "out", "--json")
    assert ran.code == 0
    [found] = ran.json["properties"]
    assert (found["structures"], found["compared"]) == (2, 0)
    assert {lost["why"] for lost in found["left_out"]} <= {"not at rest", "unknown element", "collapsed", "flown apart"}


@pytest.mark.slow
def test_the_same_command_goes_on(cli: Run, crystals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, done, real = tmp_path / "out", [], measuring.Measuring.record

    def interrupted(self: Any, number: int) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        return real(self, number)

    monkeypatch.setattr(measuring.Measuring, "record", interrupted)
    ran = cli(*local(crystals, out))
    assert ran.code == 2
    assert "keeps what was finished. Repeat the command to go on." in ran.err
    monkeypatch.setattr(measuring.Measuring, "record", lambda self, n: done.append(n) or real(self, n))
    assert cli(*local(crystals, out)).code == 0
    assert sorted(done) == [0, 1, 2]
    again = tmp_path / "again"
    assert cli(*local(crystals, again)).code == 0
    first, second = (json.loads((each / "result.json").read_text())["properties"] for each in (out, again))
    assert first == second


def test_a_process_that_helps_gives_no_result(crystals: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    request = commands.Properties(["toy"], data=crystals, properties=["locality"], output=out)
    (out / "values").mkdir(parents=True)
    with pytest.raises(UnfinishedError):
        request.take_part(Launched(Share(1, 2, Role.HELPS)))
    assert not (out / "result.json").exists()
    assert request.run().measured[0].complete == [0, 1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--properties", "eos"], ("Crystals are needed to measure eos", "--data")),
        ([], "Crystals are needed to measure relaxation, eos, elasticity"),
        (["--properties", "dimers", "--sample", "3"], "leave out --data and --sample"),
        (["--properties", "dimers", "dimers"], "named twice"),
        (["--properties", "colour"], "colour"),
        (["--properties", "dimers", "--elements", "Cx"], "'Cx' is no chemical symbol"),
        (["--properties", "dimers", "--curves", "none.json"], "no such file"),
        (["--properties", "dimers", "--shortest", "3"], "bond lengths is not possible"),
        (["--properties", "dimers", "--limits", "dimers.colour=3"], "no quantity 'dimers.colour'"),
        (["--properties", "dimers", "--limits", "eos.volume=3"], "no quantity 'eos.volume'"),
        (["--properties", "dimers", "--fmax", "0"], "more than 0, in eV/Angstrom"),
    ],
)
def test_what_cannot_be_done_is_refused(refused: Run, tmp_path: Path, words: list[str], says: Any) -> None:
    refused("properties", "toy", "-o", tmp_path / "out", *words, says=says)


def test_data_that_cannot_be_used_is_refused(refused: Run, crystals: Path, curves: Path, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "bad.extxyz", Atoms("Si", info={"K_vrh_GPa": "stiff"}, cell=[3] * 3, pbc=True))
    words = ["properties", "toy", "-o", tmp_path / "out"]
    refused(*words, "--data", tmp_path / "bad.extxyz", says="K_vrh_GPa stiff, which is no finite number")
    refused(*words, "--data", tmp_path / "none.extxyz", says="no such file")
    refused(*words, "--data", crystals, "--sample", 4, says="A --sample of 4 cannot be drawn from 3 structures")
    refused(*words, "--data", crystals, "--shortest", 1.0, says="dimers among the --properties")
    pairs = [*words, "--properties", "dimers", "--curves", curves]
    refused(*pairs, "--elements", "H,C", says="has no curve of C")
    refused(*pairs, "--functional", "r2SCAN", says="It has: PBE")


def test_nothing_is_overwritten(refused: Run, crystals: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(*local(crystals, tmp_path / "file"), says="is never overwritten")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("mine")
    refused(*local(crystals, tmp_path / "out"), says="is never overwritten")


def test_other_settings_do_not_go_on(cli: Run, refused: Run, crystals: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli(*local(crystals, out)).code == 0
    (out / "result.json").unlink()
    refused(*local(crystals, out), "--dtype", "float32", says="another model, other data or other settings")
