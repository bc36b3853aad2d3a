"""Large files of each format of structures: as many bytes as asked for, in seconds.

Forty structures are written again and again, which no reader notices; of each kind they are those that `seeds` writes.
"""

from __future__ import annotations

import gzip
import json
import pickle
import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import h5py
import lmdb
import msgpack
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryWriter
from fuzzing import seeds

_TOGETHER = 200
"""Values that are put into a database at once."""


def labelled(seed: int, symbols: str, *, periodic: bool) -> Atoms:
    """Atoms on a lattice, moved at random, with random labels."""
    random = np.random.default_rng(seed)
    atoms = Atoms(symbols, cell=20 * np.eye(3) + random.normal(0, 0.1, (3, 3)) if periodic else None, pbc=periodic)
    atoms.positions = 2.4 * np.argwhere(np.ones((8, 8, 8)))[: len(atoms)] + random.uniform(-0.3, 0.3, (len(atoms), 3))
    results: dict[str, Any] = {"energy": float(random.normal(-100)), "forces": random.normal(size=(len(atoms), 3))}
    atoms.calc = SinglePointCalculator(atoms, **results | ({"stress": random.normal(size=6)} if periodic else {}))
    return atoms


CRYSTALS = tuple(labelled(seed, "SiO" * 250, periodic=True) for seed in range(40))
MOLECULES = tuple(labelled(seed, "CH" * 150, periodic=False) for seed in range(40))


def small(write: Callable[[Path, Sequence[Atoms]], None], path: Path) -> Path:
    """A file of the crystals beside the large one."""
    made = path.with_name("small")
    write(made, CRYSTALS)
    return made


# Text.


def extxyz(path: Path, size: int) -> None:
    """Text as ASE writes it."""
    text = small(seeds.extxyz, path).read_bytes()
    with path.open("wb") as stream:
        _repeated(stream, text, size)


def gzipped(path: Path, size: int) -> None:
    """The same, so many bytes before they are compressed."""
    text = small(seeds.extxyz, path).read_bytes()
    with gzip.open(path, "wb", compresslevel=1) as stream:
        _repeated(stream, text, size)


def zipped(path: Path, size: int) -> None:
    """The same as the one member of an archive, so many bytes before they are compressed."""
    text = small(seeds.extxyz, path).read_bytes()
    archive = ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("a.extxyz", "w", force_zip64=True) as stream:
        _repeated(stream, text, size)


def _repeated(stream: IO[bytes], text: bytes, size: int) -> None:
    for _ in range(size // len(text) + 1):
        stream.write(text)


def mptrj(path: Path, size: int) -> None:
    """Materials of forty frames."""
    text = json.dumps(json.loads(small(seeds.mptrj, path).read_text())["mp-1"]).encode()
    with path.open("wb") as stream:
        for i in range(size // len(text) + 1):
            stream.write((b", " if i else b"{") + b'"mp-%d": ' % i + text)
        stream.write(b"}")


def matpes(path: Path, size: int) -> None:
    """A list of records."""
    text = small(seeds.matpes, path).read_bytes().strip()[1:-1]
    with path.open("wb") as stream:
        for i in range(size // len(text) + 1):
            stream.write((b", " if i else b"[") + text)
        stream.write(b"]")


def trajectory(path: Path, size: int) -> None:
    """A file of ASE's own."""
    frames = cycle(CRYSTALS)
    with TrajectoryWriter(str(path)) as writer:
        while path.stat().st_size < size:
            writer.write(next(frames))


# Databases.


def ase_database(path: Path, size: int) -> None:
    """Rows copied inside the database."""
    seeds.ase_database(path, CRYSTALS)
    connection, begun = sqlite3.connect(path), path.stat().st_size
    columns = [row[1] for row in connection.execute("PRAGMA table_info(systems)") if row[1] not in ("id", "unique_id")]
    names = ", ".join(columns)
    for _ in range(size // begun):
        connection.execute(
            f"INSERT INTO systems (unique_id, {names}) SELECT hex(randomblob(16)), {names} FROM systems WHERE id <= 40"
        )
    connection.commit()
    connection.close()


def aselmdb(path: Path, size: int) -> None:
    """Rows under new numbers, as OMat24's."""
    _copied(
        small(seeds.aselmdb, path),
        path,
        size,
        lambda i: b"%d" % (i + 1),
        lambda n: {b"nextid": zlib.compress(b"%d" % (n + 1))},
    )


def deepmd_lmdb(path: Path, size: int) -> None:
    """Frames under new numbers."""

    def about(length: int) -> Mapping[bytes, bytes]:
        described = {"nframes": length, "frame_idx_fmt": "012d", "type_map": ["H", "O", "Si"]}
        return {b"__metadata__": msgpack.packb(described)}

    _copied(small(seeds.deepmd_lmdb, path), path, size, lambda i: b"%012d" % i, about)


def oc20(path: Path, size: int) -> None:
    """Graphs under new numbers."""
    _copied(small(seeds.oc20, path), path, size, lambda i: b"%d" % i, lambda n: {b"length": pickle.dumps(n)})


def _copied(
    source: Path,
    path: Path,
    size: int,
    key: Callable[[int], bytes],
    about: Callable[[int], Mapping[bytes, bytes]],
) -> None:
    """The values of a small LMDB under one key after another until the file is as large, and what describes them."""
    with lmdb.open(str(source), subdir=False, readonly=True, lock=False) as environment, environment.begin() as get:
        stored = dict(get.cursor())
    numbers, values = count(), cycle([stored.pop(key(i)) for i in range(len(CRYSTALS))])
    with lmdb.open(str(path), subdir=False, map_size=2 * size + 10**8, lock=False) as environment:
        while environment.info()["last_pgno"] * environment.stat()["psize"] < size:
            with environment.begin(write=True) as put:
                for _ in range(_TOGETHER):
                    put.put(key(next(numbers)), next(values))
        with environment.begin(write=True) as put:
            for name, value in (stored | dict(about(next(numbers)))).items():
                put.put(name, value)
    source.unlink()


# Arrays.


def deepmd_npy(path: Path, size: int) -> None:
    """A system of one set."""
    arrays = seeds.deepmd_arrays(CRYSTALS)
    (path / "set.000").mkdir(parents=True)
    for name, array in arrays.items():
        with (path / "set.000" / f"{name}.npy").open("wb") as stream:
            _array(stream, array, _repeats(size, *arrays.values()))
    (path / "type.raw").write_text("2\n1\n" * 250)
    (path / "type_map.raw").write_text("H\nO\nSi\n")


def deepmd_hdf5(path: Path, size: int) -> None:
    """The same in one file."""
    arrays = seeds.deepmd_arrays(CRYSTALS)
    repeats = _repeats(size, *arrays.values())
    with h5py.File(path, "w") as file:
        group = file.create_group("quartz")
        group["type.raw"], group["type_map.raw"] = [2, 1] * 250, np.array(["H", "O", "Si"], dtype="S")
        for name, array in arrays.items():
            made = group.create_dataset(f"set.000/{name}.npy", (len(array) * repeats, *array.shape[1:]), array.dtype)
            for i in range(repeats):
                made[i * len(array) : (i + 1) * len(array)] = array


def npz(compression: int) -> Callable[[Path, int], None]:
    """Arrays of rMD17, so many bytes before they are compressed."""

    def write(path: Path, size: int) -> None:
        arrays = {
            "coords": np.array([a.positions for a in MOLECULES]),
            "energies": np.array([a.get_potential_energy() for a in MOLECULES]),
            "forces": np.array([a.get_forces() for a in MOLECULES]),
        }
        repeats = _repeats(size, *arrays.values())
        with ZipFile(path, "w", compression, compresslevel=1) as archive:
            for name, array in ({"nuclear_charges": MOLECULES[0].numbers} | arrays).items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    _array(stream, array, repeats if name in arrays else 1)

    return write


def spice(path: Path, size: int) -> None:
    """Molecules of forty conformations."""
    positions = np.array([a.positions for a in MOLECULES])
    gradients = np.array([-a.get_forces() for a in MOLECULES])
    with h5py.File(path, "w") as file:
        for i in range(_repeats(size, positions, gradients)):
            group = file.create_group(f"molecule-{i}")
            group["atomic_numbers"], group["conformations"] = MOLECULES[0].numbers, positions
            group["dft_total_energy"] = [a.get_potential_energy() for a in MOLECULES]
            group["dft_total_gradient"] = gradients


def _repeats(size: int, *arrays: np.ndarray) -> int:
    return size // sum(array.nbytes for array in arrays) + 1


def _array(stream: IO[bytes], array: np.ndarray, repeats: int) -> None:
    """An array as `numpy.save` writes it, repeated along its first axis."""
    shape = (len(array) * repeats, *array.shape[1:])
    described = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    for _ in range(repeats):
        stream.write(array.tobytes())


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "a.extxyz": extxyz,
    "a.extxyz.gz": gzipped,
    "a.extxyz.zip": zipped,
    "a.db": ase_database,
    "a.aselmdb": aselmdb,
    "oc20.lmdb": oc20,
    "deepmd-npy": deepmd_npy,
    "deepmd.hdf5": deepmd_hdf5,
    "deepmd.lmdb": deepmd_lmdb,
    "mptrj.json": mptrj,
    "matpes.json": matpes,
    "rmd17.npz": npz(ZIP_STORED),
    "compressed.npz": npz(ZIP_DEFLATED),
    "spice.hdf5": spice,
    "a.traj": trajectory,
}
"""Writers by the name of the file or folder."""
