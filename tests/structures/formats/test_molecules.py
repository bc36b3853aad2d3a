"""Molecules in other units: MD17, rMD17 and MD22 in kcal/mol, SPICE in bohr and hartree."""

import os
import pickle
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from labelled_samples import assert_same, labelled

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.structures.formats.rows import RowsInOrder, RowsUnpacked, in_order
from equiprune.structures.labels import Labels, label_sources

KCAL = 4184.0 / 6.02214076e23 / 1.602176634e-19
"""eV, from the definitions of calorie, mole and electronvolt (ASE's are CODATA 2014's, 1e-8 away)."""


def molecules(count: int = 4) -> list[Atoms]:
    return [labelled(seed, "OCH4", periodic=False) for seed in range(count)]


def npz_arrays(frames: list[Atoms], names: str) -> dict[str, np.ndarray]:
    unit = units.kcal / units.mol
    numbers, positions, energies, forces = names.split()
    return {
        numbers: frames[0].numbers.astype(np.uint8),
        positions: np.array([a.positions for a in frames]),
        energies: np.array([a.get_potential_energy() / unit for a in frames]),
        forces: np.array([a.get_forces() / unit for a in frames]),
    }


RMD17, MD22 = "nuclear_charges coords energies forces", "z R E F"


@pytest.mark.parametrize("names", [RMD17, MD22])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_trajectory_is_read_in_electronvolt(names: str, save: object, tmp_path: Path) -> None:
    frames = molecules()
    arrays = npz_arrays(frames, names) | {"theory": np.array("PBE"), "old_indices": np.arange(4)}
    save(tmp_path / "a.npz", **arrays)  # type: ignore[operator]
    opened = ep.open_structures(tmp_path / "a.npz")
    assert_same(opened, frames)
    assert_same(pickle.loads(pickle.dumps(opened)), frames)
    assert_same(ep.read_structures(tmp_path / "a.npz"), frames)


def test_a_kilocalorie_is_what_its_definition_says(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", z=[1], R=np.zeros((1, 1, 3)), E=[[1.0]], F=np.full((1, 1, 3), 2.0))
    [atoms] = ep.read_structures(tmp_path / "a.npz")
    assert atoms.get_potential_energy() == pytest.approx(KCAL, rel=1e-7)
    np.testing.assert_allclose(atoms.get_forces(), 2 * KCAL, rtol=1e-7)
    assert label_sources(atoms, Labels.of(atoms)) == {"energy": "E (kcal/mol)", "forces": "F (kcal/mol/Angstrom)"}


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"positions": np.zeros((1, 3))}, "it has the arrays positions, and should have nuclear_charges"),
        ({"z": [1], "R": np.zeros((2, 1, 3)), "E": [0.0]}, "different numbers of structures"),
        ({"z": [1], "R": np.zeros((1, 1, 3)), "e_unit": np.array("eV")}, "e_unit is eV, and only kcal/mol is read"),
        ({"z": [1, 1], "R": np.zeros((1, 1, 3))}, r"it has 2 atoms, and arrays of other sizes .* R \(1, 3\)"),
    ],
)
def test_other_arrays_units_and_shapes_are_refused(arrays: dict[str, np.ndarray], says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(StructureError, match=says):
        list(ep.read_structures(tmp_path / "a.npz"))


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.7, 0.99])
def test_a_trajectory_that_is_cut_off_is_refused(kept: float, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **npz_arrays(molecules(), RMD17))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(StructureError, match=r"cut\.npz' could not be read"):
        list(ep.open_structures(tmp_path / "cut.npz"))


def test_a_large_trajectory_stays_on_disk(tmp_path: Path) -> None:
    """20,000 conformations of 20 atoms: 19 MB, of which 1 MB is never held."""
    positions = np.zeros((20_000, 20, 3))
    np.savez(tmp_path / "a.npz", z=np.ones(20), R=positions, F=positions, E=np.zeros(20_000))
    del positions
    tracemalloc.start()
    opened = ep.open_structures(tmp_path / "a.npz")
    assert (len(opened), len(opened[19_999])) == (20_000, 20)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_compressed_trajectory_is_never_whole_in_memory_where_it_is_streamed(tmp_path: Path) -> None:
    positions = np.zeros((6_000, 20, 3))
    np.savez_compressed(tmp_path / "a.npz", z=np.ones(20), R=positions, F=positions, E=np.zeros(6_000))
    del positions
    tracemalloc.start()
    found = ep.read_structures(tmp_path / "a.npz")
    assert sum(len(next(found)) for _ in range(300)) == 6000
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_rows_of_a_compressed_array_are_read_again(tmp_path: Path) -> None:
    """In any order, and so are those of an array in Fortran's order, which has no rows."""
    array = np.arange(24.0).reshape(4, 3, 2)
    for order, kind in (("C", RowsInOrder), ("F", RowsUnpacked)):
        np.savez_compressed(tmp_path / "a.npz", a=np.array(array, order=order))  # type: ignore[call-overload]
        rows = in_order(tmp_path / "a.npz", "a.npy")
        assert type(rows) is kind
        for index in (2, 3, 0, 0, 1):
            np.testing.assert_array_equal(rows.row(index), array[index])


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_compressed_trajectory_is_unpacked_beside_memory_where_it_is_read_anywhere(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is gone when nobody reads it, and a copy for another process has one of its own."""
    positions = np.array(np.arange(6_000 * 60.0).reshape(6_000, 20, 3), order=order)  # type: ignore[call-overload]
    np.savez_compressed(tmp_path / "a.npz", z=np.ones(20), R=positions, F=positions, E=np.zeros(6_000))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    tracemalloc.start()
    opened = ep.open_structures(tmp_path / "a.npz")
    np.testing.assert_array_equal(opened[5_000].positions, positions[5_000])
    assert tracemalloc.get_traced_memory()[1] < 4e6  # a megabyte at a time, of 3 MB of positions and 3 of forces
    tracemalloc.stop()
    copy = pickle.loads(pickle.dumps(opened))
    assert len(list(temporary.iterdir())) == 2 * 3
    del opened
    np.testing.assert_array_equal(copy[17].positions, positions[17])
    del copy
    assert not list(temporary.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="limits of files are those of Unix")
def test_no_room_to_unpack_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from full_disk import files_of_at_most

    np.savez_compressed(tmp_path / "a.npz", z=np.ones(20), R=np.zeros((600, 20, 3)), E=np.zeros(600))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with files_of_at_most(100_000), pytest.raises(StructureError, match=r"R\.npy is compressed .*TMPDIR"):
        ep.open_structures(tmp_path / "a.npz")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_compressed_array_that_ends_too_early_is_named(kept: float, tmp_path: Path) -> None:
    """The archive is whole, and its array has fewer rows than its header says."""
    np.savez_compressed(tmp_path / "a.npz", **npz_arrays(molecules(), RMD17))
    with zipfile.ZipFile(tmp_path / "a.npz") as whole, zipfile.ZipFile(tmp_path / "cut.npz", "w", 8) as archive:
        for member in whole.infolist():
            content = whole.read(member)
            size = 128 + int(kept * (len(content) - 128)) if member.filename == "coords.npy" else len(content)
            archive.writestr(member.filename, content[:size])
    with pytest.raises(StructureError, match=r"Structure \d of .*coords\.npy is cut off|could not be read"):
        list(ep.read_structures(tmp_path / "cut.npz"))
    with pytest.raises(StructureError, match=r"could not be read.*coords\.npy is cut off"):
        ep.open_structures(tmp_path / "cut.npz")


def write_spice(path: Path, groups: dict[str, list[Atoms]]) -> Path:
    with h5py.File(path, "w") as file:
        for name, frames in groups.items():
            group = file.create_group(name)
            group["atomic_numbers"] = frames[0].numbers.astype(np.int16)
            group["conformations"] = np.array([a.positions for a in frames]) / units.Bohr
            group["dft_total_energy"] = np.array([a.get_potential_energy() for a in frames]) / units.Hartree
            gradient = [-a.get_forces() for a in frames]
            group["dft_total_gradient"] = np.array(gradient) / (units.Hartree / units.Bohr)
            group["conformations"].attrs["units"] = "bohr"
    return path


def test_molecules_of_spice_are_read_in_angstrom_and_electronvolt(tmp_path: Path) -> None:
    methanol, hydrogen = molecules(3), [labelled(9, "H2", periodic=False)]
    opened = ep.open_structures(write_spice(tmp_path / "SPICE.hdf5", {"methanol": methanol, "hydrogen": hydrogen}))
    expected = hydrogen + methanol  # groups of HDF5 are in the order of their names
    assert_same(opened, expected)
    assert_same([opened[3], opened[0]], [methanol[2], hydrogen[0]])
    assert [len(opened), *map(int, opened.sizes)] == [4, 2, 6, 6, 6]  # type: ignore[attr-defined]
    assert [atoms.info["molecule"] for atoms in opened] == ["hydrogen", *["methanol"] * 3]


def test_a_gradient_is_minus_the_force(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["m/atomic_numbers"], file["m/conformations"] = [1], np.ones((1, 1, 3))
        file["m/dft_total_gradient"], file["m/dft_total_energy"] = np.full((1, 1, 3), 0.5), [-1.0]
    [atoms] = ep.read_structures(tmp_path / "a.hdf5")
    np.testing.assert_allclose(atoms.positions, 0.52917721067, rtol=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), -0.5 * 51.4220670, rtol=1e-8)
    assert atoms.get_potential_energy() == pytest.approx(-27.21138602, rel=1e-8)


def test_other_groups_and_units_of_hdf5_are_refused(tmp_path: Path) -> None:
    path = write_spice(tmp_path / "a.hdf5", {"m": molecules(1)})
    with h5py.File(path, "a") as file:
        file["m/conformations"].attrs["units"] = "angstrom"
    with pytest.raises(StructureError, match="conformations of 'm' is in angstrom, and only bohr is read"):
        ep.open_structures(path)
    with h5py.File(path, "a") as file:
        file["other"] = [1.0]
    with pytest.raises(StructureError, match=r"is not a molecule of SPICE|only bohr"):
        ep.open_structures(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(StructureError, match=r"a\.hdf5' could not be read"):
        ep.open_structures(path)
