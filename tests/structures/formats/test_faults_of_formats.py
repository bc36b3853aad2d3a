"""Faults in files are refused by a sentence, and no structure is lost without one."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import equiprune as ep
from equiprune.errors import StructureError

CRYSTAL = '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T"\nNa 0 0 0\n'


def calculation() -> dict:
    """One record of MatPES."""
    lattice = {"matrix": np.diag([4.0, 4.0, 4.0]).tolist()}
    site = {"species": [{"element": "Na", "occu": 1}], "xyz": [0, 0, 0]}
    return {"structure": {"lattice": lattice, "sites": [site]}, "energy": -1.0, "forces": [[0, 0, 0]]}


def test_an_entry_that_is_null_does_not_end_the_list(tmp_path: Path) -> None:
    path = tmp_path / "matpes.json"
    path.write_text(json.dumps([calculation(), None, calculation()]))
    with pytest.raises(StructureError, match="an entry of its list is None, and should be a calculation"):
        list(ep.read_structures(path))


def test_an_entry_of_many_lists_is_told_in_few_words(tmp_path: Path) -> None:
    path = tmp_path / "matpes.json"
    path.write_text(json.dumps([[[[[[[[[[calculation()] * 50]]]]]]]]]))
    with pytest.raises(StructureError, match="and should be a calculation") as refusal:
        list(ep.read_structures(path))
    assert len(str(refusal.value)) < 500 + len(str(path))


def test_a_file_that_is_quoted_by_its_reader_is_told_in_few_words(tmp_path: Path) -> None:
    path = tmp_path / "a.cif"
    path.write_text("data_a\nloop_\n_atom_site_label\n_atom_site_fract_x\n" + "x" * 3000 + "\n")
    with pytest.raises(StructureError, match=r"could not be read as structures \(.*x\.\.\.\)") as refusal:
        list(ep.read_structures(path))
    assert len(str(refusal.value)) < 500 + len(str(path))


def test_what_is_said_of_a_list_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "matpes.json"
    path.write_text(json.dumps([calculation(), calculation()])[:-60])
    with pytest.raises(StructureError, match="it is cut off or no JSON") as refused:
        list(ep.read_structures(path))
    assert "\n" not in str(refused.value)


def test_forces_of_another_molecule_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "md.npz"
    np.savez(path, z=np.array([1, 1]), R=np.zeros((3, 2, 3)), E=np.zeros(3), F=np.zeros((3, 3, 3)))
    with pytest.raises(StructureError, match=r"it has 2 atoms, and arrays of other sizes .* F \(3, 3\)"):
        list(ep.read_structures(path))


def test_a_negative_number_of_atoms_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "negative.extxyz"
    path.write_text("-1\nx\n")
    with pytest.raises(StructureError, match="structure 0 should begin with its number of atoms, and there is '-1'"):
        list(ep.read_structures(path))


@pytest.mark.parametrize("name", ["CRYSTALS.ZIP", "crystals.zip"])
def test_a_suffix_may_be_in_capitals(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("a.extxyz", CRYSTAL)
    [atoms] = ep.read_structures(tmp_path / name)
    assert atoms.get_chemical_formula() == "Na"


def test_a_box_without_volume_says_how_to_be_without_one(tmp_path: Path) -> None:
    (tmp_path / "type.raw").write_text("0\n")
    (tmp_path / "type_map.raw").write_text("Na\n")
    (tmp_path / "set.000").mkdir()
    for name, width in (("coord", 3), ("box", 9)):
        np.save(tmp_path / "set.000" / f"{name}.npy", np.zeros((2, width)))
    with pytest.raises(StructureError, match="its box has no volume; a system that is not periodic has a file nopbc"):
        list(ep.read_structures(tmp_path))


@pytest.mark.parametrize("kept", ["Na 0 0 0\n", ""])
def test_more_columns_than_there_are_are_refused_at_once(kept: str, tmp_path: Path) -> None:
    text = CRYSTAL.replace("species:S:1", "species:S:2147483648").replace("Na 0 0 0\n", kept)
    (tmp_path / "a.extxyz").write_text(text if kept else text.replace("1\n", "0\n", 1))
    with pytest.raises(StructureError, match="Properties describe 2147483651 columns, and the first atom has"):
        list(ep.read_structures(tmp_path / "a.extxyz"))


def test_lists_in_lists_without_end_are_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "matpes.json"
    path.write_text("[" * 100_000 + json.dumps([calculation()]) + "]" * 100_000)
    with pytest.raises(StructureError, match="nested more than 5,000 deep"):
        list(ep.read_structures(path))


@pytest.mark.parametrize("number", [200, -1])
def test_atomic_numbers_that_no_element_has_are_refused(number: int, tmp_path: Path, toy: ep.Potential) -> None:
    path = tmp_path / "md.npz"
    np.savez(path, z=np.array([1, number]), R=np.zeros((1, 2, 3)), E=np.zeros(1), F=np.zeros((1, 2, 3)))
    with pytest.raises(StructureError, match=f"has the atomic number {number}, and elements have 1 to 118"):
        list(ep.read_structures(path))
    with pytest.raises(StructureError, match=f"has the atomic number {number}|could not be read"):
        toy.predict(ep.open_structures(path))
