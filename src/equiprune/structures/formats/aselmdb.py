"""ASE databases in LMDB files (``.aselmdb``), as fairchem's data sets are: OMat24, sAlex, OMol25."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.structures.formats.ase_database import structure_of_row
from equiprune.structures.formats.format import RandomAccess, reading
from equiprune.structures.formats.lmdb_files import LOCK, lmdb_environment
from equiprune.structures.sequences import Structures

_NO_LMDB = "'{}' is an LMDB database, which needs ase-db-backends. Install it: pip install 'equiprune[lmdb]'"


class AseLmdb(RandomAccess):
    """ASE databases in LMDB files (.aselmdb)."""

    name: ClassVar[str] = "aselmdb"

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".aselmdb" and path.is_file()

    def open(self, path: Path) -> Structures:
        return LmdbFile.open(path)


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
        with reading(path), LOCK:
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
            with LOCK, lmdb_environment(self.path) as environment, environment.begin() as transaction:
                stored = transaction.get(b"%d" % row)
            if stored is None:
                raise ValueError(f"row {row} is missing")
            return structure_of_row(
                AtomsRow(decode_bytestream(stored, decompress=True, json_decode=True) | {"id": row})
            )
