"""LMDB files as structures: ASE databases (``.aselmdb``), and the Open Catalyst project's files (``.lmdb``).

The latter have one pickled graph under each of the keys 0, 1, ... The graphs are PyTorch Geometric's. They are read as
data: no class that a pickle names is imported or run, and PyTorch Geometric is not needed. Fields as in
fairchem/core/datasets/lmdb_dataset.py and preprocessing/atoms_to_graphs.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor

from equiprune.errors import StructureError
from equiprune.files.pickles import StandIn, read_pickle
from equiprune.structures.files import reading, structure_of_row
from equiprune.structures.sequences import Structures

_PACKAGES = frozenset({"torch_geometric"})
_NO_LMDB = "'{}' is an LMDB database, which needs ase-db-backends. Install it: pip install 'equiprune[lmdb]'"
_LOCK = Lock()
"""LMDB refuses to open a file that the process has open, and a moment is enough to read a structure."""


@dataclass(frozen=True, eq=False)
class Oc20Lmdb(Structures):
    """An LMDB of pickled graphs; ``length`` is how many."""

    path: Path
    length: int

    @classmethod
    def open(cls, path: Path) -> Oc20Lmdb:
        """Count the graphs. Raises `StructureError` without lmdb, and for a damaged or foreign file."""
        try:
            import lmdb  # noqa: F401
        except ImportError as error:
            raise StructureError(f"'{path}' needs lmdb. Install it: pip install 'equiprune[lmdb]'") from error
        with reading(path), _transaction(path) as transaction:
            stored = transaction.get(b"length")
            length = read_pickle(stored, _PACKAGES) if stored else transaction.stat()["entries"]
        return cls(path, int(length))

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Atoms:
        with reading(self.path, index):
            with _transaction(self.path) as transaction:
                stored = transaction.get(b"%d" % index)
            if stored is None:
                raise ValueError("it is missing")
            return _atoms(_fields(read_pickle(stored, _PACKAGES)))


@contextmanager
def _transaction(path: Path) -> Iterator[Any]:
    with _LOCK, lmdb_environment(path) as environment, environment.begin() as transaction:
        yield transaction


def _fields(graph: Any) -> Mapping[str, Any]:
    """Fields of a pickled ``Data``, before PyTorch Geometric 2 and since."""
    if not isinstance(graph, StandIn):
        raise ValueError(f"it holds a {type(graph).__name__}, not a graph of the Open Catalyst project")
    store = graph.state.get("_store")
    found = store.state.get("_mapping", store.state) if isinstance(store, StandIn) else graph.state
    return {name: value for name, value in found.items() if value is not None}


def _atoms(fields: Mapping[str, Any]) -> Atoms:
    """A structure with its energy (eV) and forces (eV/Angstrom); fixed atoms are marked as such."""
    missing = {"pos", "atomic_numbers", "cell"} - fields.keys()
    if missing:
        raise ValueError(f"the graph has no {', '.join(sorted(missing))}")
    atoms = Atoms(
        numbers=_array(fields["atomic_numbers"]).astype(int).ravel(),
        positions=_array(fields["pos"]),
        cell=_array(fields["cell"]).reshape(3, 3),
        pbc=True,
        tags=_array(fields["tags"]).astype(int).ravel() if "tags" in fields else None,
    )
    if "fixed" in fields:
        from ase.constraints import FixAtoms  # slow to import

        atoms.set_constraint(FixAtoms(mask=_array(fields["fixed"]).ravel() > 0))
    atoms.info |= {name: _plain(fields[name]) for name in ("sid", "fid") if name in fields}
    named = {"energy": ("energy", "y"), "forces": ("forces", "force")}
    results: dict[str, Any] = {
        result: _array(fields[next(name for name in names if name in fields)])
        for result, names in named.items()
        if any(name in fields for name in names)
    }
    if "energy" in results:
        results["energy"] = float(results["energy"].reshape(()))
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _array(value: Any) -> np.ndarray:
    return value.double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=float)


def _plain(value: Any) -> Any:
    """A number or text, as extxyz can hold it."""
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return value if isinstance(value, int | float | str) else str(value)


@dataclass(frozen=True, eq=False)
class LmdbFile(Structures):
    """An ASE database in an LMDB file (``.aselmdb``), as fairchem's data sets are; ``ids`` are its rows."""

    path: Path
    ids: np.ndarray

    @classmethod
    def open(cls, path: Path) -> LmdbFile:
        """Find the rows. Raises `StructureError` without ase-db-backends, and for a damaged file."""
        try:
            from ase_db_backends.aselmdb import LMDBDatabase
        except ImportError as error:
            raise StructureError(_NO_LMDB.format(path)) from error
        with reading(path), _LOCK:
            with lmdb_environment(path):  # or LMDBDatabase reads a file that is cut off, and the process is gone
                pass
            database = LMDBDatabase(path.absolute(), readonly=True, use_lock_file=False)
            ids = np.array(database.ids, dtype=np.int64)
            database.close()
        return cls(path, ids)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Atoms:
        """Without LMDBDatabase, which lists all rows whenever it is opened."""
        from ase.db.row import AtomsRow
        from ase_db_backends.aselmdb import decode_bytestream

        row = int(self.ids[index])
        with reading(self.path, index):
            with _LOCK, lmdb_environment(self.path) as environment, environment.begin() as transaction:
                stored = transaction.get(b"%d" % row)
            if stored is None:
                raise ValueError(f"row {row} is missing")
            return structure_of_row(
                AtomsRow(decode_bytestream(stored, decompress=True, json_decode=True) | {"id": row})
            )


@contextmanager
def lmdb_environment(path: Path) -> Iterator[Any]:
    """An LMDB file opened for reading; LMDB itself would end the process where pages are missing."""
    import lmdb

    with lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False) as environment:
        if (environment.info()["last_pgno"] + 1) * environment.stat()["psize"] > path.stat().st_size:
            raise ValueError("the file is cut off")
        yield environment
