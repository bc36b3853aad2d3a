"""Structures of several formats into one file: labels, counts, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from command_line import Run
from labelled_samples import assert_same, labelled
from test_deepmd_npy import write_system
from test_molecules import RMD17, molecules, npz_arrays

import equiprune as ep
from equiprune.errors import EquipruneError
from equiprune.structures.labels import LabelKeys, Labels


@pytest.fixture
def mixture(tmp_path: Path) -> list[Path]:
    """A DeePMD system and a trajectory of a molecule."""
    system = write_system(tmp_path / "system", [[labelled(0), labelled(1)]])
    np.savez(tmp_path / "rmd17.npz", **npz_arrays(molecules(2), RMD17))
    return [system, tmp_path / "rmd17.npz"]


@pytest.mark.parametrize(("suffix", "tolerance"), [("extxyz", 1e-7), ("aselmdb", 1e-12)])
def test_several_formats_become_one_file(suffix: str, tolerance: float, mixture: list[Path], tmp_path: Path) -> None:
    made = ep.convert(mixture, tmp_path / f"all.{suffix}")
    assert_same(ep.open_structures(made.path), [labelled(0), labelled(1), *molecules(2)], tolerance)
    assert (made.kept, made.skipped) == (4, {})
    assert made.labels.of_quantity("energy") == {"DeePMD energy": 2, "energies (kcal/mol)": 2}
    assert made.labels.of_quantity("stress") == {"DeePMD virial (stress = -virial/volume)": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"all.{suffix}", "rmd17.npz", "system"]


def test_more_structures_than_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.structures.converting._BATCH", 3)
    frames = [labelled(seed) for seed in range(8)]
    system = write_system(tmp_path / "system", [frames])
    assert_same(ep.open_structures(ep.convert(system, tmp_path / "a.aselmdb", limit=7).path), frames[:7])


def write_bad(path: Path) -> Path:
    """A good structure, two at one place, a label that is not finite, none without a label."""
    good, twice, infinite, bare = (labelled(seed) for seed in range(4))
    twice.positions[1] = twice.positions[0]
    twice.calc = None
    infinite.calc = SinglePointCalculator(infinite, energy=float("inf"))
    bare.calc = None
    from ase.io import write

    write(path, [twice, good, twice, infinite, bare], format="extxyz")
    return path


def test_what_is_skipped_is_counted_and_the_first_is_named(cli: Run, tmp_path: Path) -> None:
    ran = cli("convert", write_bad(tmp_path / "bad.xyz"), "-o", tmp_path / "out.extxyz", "--labelled-only", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["kept"] == 1
    skipped = {reason: found["structures"] for reason, found in ran.json["skipped"].items()}
    assert skipped == {
        "no model can evaluate them": 2,
        "a label is not finite or has another shape": 1,
        "they have no label": 1,
    }
    first = [found["first"] for found in ran.json["skipped"].values()]
    assert first[0].startswith("Structure 0 (H2O) has atoms 0 and 1 at the same place")
    assert first[1].startswith("Structure 3: The energy label of H2O is not finite")
    assert first[2] == "Structure 4 (H2O) has no label."
    text = cli("convert", tmp_path / "bad.xyz", "-o", tmp_path / "again.extxyz")
    assert "Written 2 structures" in text.out
    assert "Skipped 2, because no model can evaluate them. The first: Structure 0" in text.out


def test_labels_under_other_names_become_results(tmp_path: Path) -> None:
    atoms = Atoms("H", info={"dft": -13.5, "note": "kept", "REF_energy": 0.0})
    from ase.io import write

    write(tmp_path / "a.xyz", atoms, format="extxyz")
    [found] = ep.read_structures(ep.convert(tmp_path / "a.xyz", tmp_path / "b.xyz", keys=LabelKeys(energy="dft")).path)
    assert Labels.of(found).energy == found.get_potential_energy() == -13.5
    assert found.info == {"dft": -13.5, "note": "kept"}


REFUSED = {
    "exists": (["in.xyz", "-o", "in.xyz"], "exists and is never overwritten"),
    "suffix": (["in.xyz", "-o", "out.cif"], "written as .extxyz or .xyz or .aselmdb, not '.cif'"),
    "missing": (["none.xyz", "-o", "out.xyz"], "no such file"),
    "rename": (["in.xyz", "-o", "out.xyz", "--rename", "D=Q"], "--rename D=Q is not possible"),
    "key": (["in.xyz", "-o", "out.xyz", "--energy-key", "dft"], "No structure has 'dft'"),
    "nothing": (["bare.xyz", "-o", "out.xyz", "--labelled-only"], "No structure is left to write"),
    "hessian": (["hessian.xyz", "-o", "out.aselmdb"], "no place for hessian_products, hessian_vectors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused(case: str, refused: Run, tmp_path: Path) -> None:
    from ase.io import write

    write(tmp_path / "in.xyz", labelled(0), format="extxyz")
    write(tmp_path / "bare.xyz", Atoms("H"), format="extxyz")
    atoms = labelled(0)
    atoms.set_array("hessian_vectors", np.ones((3, 3)))
    atoms.set_array("hessian_products", np.ones((3, 3)))
    write(tmp_path / "hessian.xyz", atoms, format="extxyz")
    words, says = REFUSED[case]
    names = [tmp_path / word if "." in word else word for word in words]
    refused("convert", *names, says=says)


def test_a_source_that_ends_too_early_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n2\n\nH 0 0 0\n")
    with pytest.raises(EquipruneError, match="structure 1 is cut off"):
        ep.convert(tmp_path / "a.xyz", tmp_path / "b.xyz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.xyz"]
