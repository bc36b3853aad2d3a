"""ASE databases in LMDB files (``.aselmdb``), as fairchem's data sets are: OMat24, sAlex, OMol25."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.structures.formats.ase_database import structure_of_row
from equiprune.structures.formats.format import RandomAccess, reading
from equiprune.structures.formats.lmdb_files import LmdbPages, lmdb_pages
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
            import ase_db_backends.aselmdb  # noqa: F401 (rows cannot be read without it)
        except ImportError as error:
            raise StructureError(_NO_LMDB.format(path)) from error
        with reading(path), lmdb_pages(path) as pages:
            following, deleted = _stored(pages, "nextid"), _stored(pages, "deleted_ids")
            gone = set(deleted or [])
            if not 0 < (following or 1) <= pages.entries + len(gone) + 1:
                raise ValueError(f"it has {pages.entries} entries, and its next row would be {following}")
            return cls(path, np.array([row for row in range(1, following or 1) if row not in gone], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Atoms:
        """The structure of a row. LMDBDatabase would list all rows whenever it is opened, and trusts the file."""
        from ase.db.row import AtomsRow

        row = int(self.ids[index])
        with reading(self.path, index):
            with lmdb_pages(self.path) as pages:
                stored = _stored(pages, str(row))
            if stored is None:
                raise ValueError(f"row {row} is missing")
            return structure_of_row(AtomsRow(stored | {"id": row}))


def _stored(pages: LmdbPages, key: str) -> Any:
    """The JSON under a key, None where there is none."""
    from ase_db_backends.aselmdb import decode_bytestream

    stored = pages.get(key.encode())
    return None if stored is None else decode_bytestream(stored, decompress=True, json_decode=True)
