"""DeePMD-kit's systems in one file: LMDB, which is not the Open Catalyst project's, and HDF5."""

from pathlib import Path
from typing import Any

import h5py
import lmdb
import msgpack
import numpy as np
import pytest
from ase import Atoms
from labelled_samples import assert_same, labelled, reference
from test_deepmd_npy import MAP, arrays

import equiprune as ep
from equiprune.errors import StructureError


def packed(array: np.ndarray) -> dict[str, Any]:
    return {"type": str(array.dtype), "shape": list(array.shape), "data": array.tobytes()}


def write_lmdb(path: Path, frames: list[Atoms], *, subdir: bool = True, **about: Any) -> Path:
    plural = {"coord": "coords", "box": "cells", "energy": "energies", "force": "forces", "virial": "virials"}
    with lmdb.open(str(path), subdir=subdir, map_size=1 << 24) as environment, environment.begin(write=True) as put:
        for i, atoms in enumerate(frames):
            types = np.array([MAP.index(symbol) for symbol in atoms.get_chemical_symbols()], dtype=np.int32)
            frame = {plural[name]: packed(array[0]) for name, array in arrays([atoms]).items()}
            put.put(b"%012d" % i, msgpack.packb({**frame, "atom_types": packed(types)}))
        described = {"nframes": len(frames), "frame_idx_fmt": "012d", "type_map": MAP} | about
        put.put(b"__metadata__", msgpack.packb(described))
    return path


@pytest.mark.parametrize("subdir", [True, False])
def test_frames_of_an_lmdb_are_read(subdir: bool, tmp_path: Path) -> None:
    frames = [labelled(0), labelled(1, "SiO2"), labelled(2, "H")]
    opened = ep.open_structures(write_lmdb(tmp_path / "a.lmdb", frames, subdir=subdir))
    assert_same(opened, frames)
    assert_same([opened[2]], [frames[2]])


def test_an_lmdb_in_a_folder_of_data_is_one_data_set(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "a.lmdb", [labelled(0)])
    write_lmdb(tmp_path / "b.lmdb", [labelled(1)])
    assert_same(ep.read_structures(tmp_path), [labelled(0), labelled(1)])


def test_an_lmdb_as_deepmd_kit_ships_it_has_the_energies_of_its_frames() -> None:
    path = reference("deepmd_water", "water_validation.lmdb")
    opened = ep.open_structures(path)
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as get:
        stored = [msgpack.unpackb(get.get(b"%012d" % i)) for i in range(len(opened))]
    assert len(opened) == 20
    for atoms, frame in zip(opened, stored, strict=True):
        assert atoms.get_chemical_formula() == "H128O64"
        assert atoms.get_potential_energy() == np.frombuffer(frame["energies"]["data"], np.float32)[0]
        forces = np.frombuffer(frame["forces"]["data"], np.float32).reshape(-1, 3)
        np.testing.assert_array_equal(atoms.get_forces(), forces.astype(float))


@pytest.mark.parametrize(
    ("about", "says"),
    [({"type_map": None}, "no type_map"), ({"nframes": 3}, "Structure 1 of .*missing"), ({"type_map": ["H"]}, "0 of")],
)
def test_an_lmdb_that_does_not_add_up_is_refused(about: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "a.lmdb", [labelled(0)], **about)
    with pytest.raises(StructureError, match=says):
        list(ep.read_structures(path))


def write_hdf5(path: Path, systems: dict[str, list[Atoms]]) -> Path:
    with h5py.File(path, "w") as file:
        for name, frames in systems.items():
            group = file.create_group(name)
            group["type.raw"] = [MAP.index(symbol) for symbol in frames[0].get_chemical_symbols()]
            group["type_map.raw"] = np.array(MAP, dtype="S")
            if not frames[0].pbc.any():
                group["nopbc"] = True
            for key, array in arrays(frames).items():
                group[f"set.000/{key}.npy"] = array
    return path


def test_systems_of_an_hdf5_file_are_read(tmp_path: Path) -> None:
    first, second = [labelled(0), labelled(1)], [labelled(2, "H2", periodic=False)]
    opened = ep.open_structures(write_hdf5(tmp_path / "a.hdf5", {"1/water": first, "2/hydrogen": second}))
    assert_same(opened, first + second)
    assert_same([opened[2], opened[1]], [second[0], first[1]])


def test_files_are_what_dpdata_reads(tmp_path: Path) -> None:
    dpdata = pytest.importorskip("dpdata")
    frames = [labelled(seed, "H2O") for seed in range(3)]
    path = write_hdf5(tmp_path / "a.hdf5", {"water": frames})
    theirs = dpdata.LabeledSystem(f"{path}#/water", fmt="deepmd/hdf5").to("ase/structure")
    assert_same(ep.read_structures(path), theirs)


def test_without_its_package_each_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [labelled(0)]
    paths = {"msgpack": write_lmdb(tmp_path / "a.lmdb", frames), "h5py": write_hdf5(tmp_path / "a.h5", {"w": frames})}
    extras = {"msgpack": "deepmd", "h5py": "hdf5"}
    for package, path in paths.items():
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(StructureError, match=rf"needs {package}.*equiprune\[{extras[package]}\]"):
            ep.open_structures(path)
