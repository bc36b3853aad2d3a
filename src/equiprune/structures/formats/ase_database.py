"""ASE databases in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from equiprune.structures.formats.by_name import ase_format
from equiprune.structures.formats.format import RandomAccess, reading
from equiprune.structures.sequences import Structures


class AseDatabase(RandomAccess):
    """Databases that ``ase.db`` writes (.db)."""

    name: ClassVar[str] = "ASE database"

    def recognises(self, path: Path) -> bool:
        return path.is_file() and ase_format(path) == "db"

    def open(self, path: Path) -> Structures:
        return Database.open(path)


@dataclass(frozen=True, eq=False)
class Database(Structures):
    """An ASE database in one SQLite file; ``ids`` are its rows, shape (structures,).

    Key-value pairs and data of a row are the structure's ``info``.
    """

    path: Path
    ids: np.ndarray

    @classmethod
    def open(cls, path: Path) -> Database:
        """Find the rows. Raises `StructureError` for a file that is no ASE database."""
        return cls(path, _column(path, "id"))

    @property
    def sizes(self) -> np.ndarray:
        return _column(self.path, "natoms")

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Atoms:
        with reading(self.path, index):
            return structure_of_row(self._connection().get(id=int(self.ids[index])))

    def __iter__(self) -> Iterator[Atoms]:
        with self._connection() as connection:  # connecting takes longer than reading
            for index, row in enumerate(self.ids.tolist()):
                with reading(self.path, index):
                    atoms = structure_of_row(connection.get(id=row))
                yield atoms

    def _connection(self) -> Any:
        import ase.db

        return ase.db.connect(self.path, use_lock_file=False)


def _column(path: Path, name: str) -> np.ndarray:
    """A column of whole numbers of an ASE database, in the order of its rows."""
    with reading(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute(f"SELECT {name} FROM systems ORDER BY id")
            return np.array([row for (row,) in rows], dtype=np.int64)
        finally:
            connection.close()


def structure_of_row(row: Any) -> Atoms:
    """The structure of a row of an ASE database, with what the row holds beside it in ``info``."""
    atoms = row.toatoms()
    atoms.info |= {**row.key_value_pairs, **row.data}
    return atoms
