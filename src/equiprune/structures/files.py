"""Files of structures in which any one can be read at any time, without holding the others.

All that is kept is where each structure begins: 8 bytes. No file stays open in between, so that a set may be larger
than memory, have any number of files, and be read by any number of processes at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.structures.sequences import Structures

COMPRESSED = (".gz", ".bz2", ".xz")


@dataclass(frozen=True, eq=False)
class ExtxyzFile(Structures):
    """An extxyz file; ``bounds`` are the bytes where structures begin, and the end of the last one."""

    path: Path
    bounds: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """From the first line of each structure."""
        with reading(self.path), self.path.open("rb") as stream:
            found = np.empty(len(self), dtype=np.int64)
            for index, begin in enumerate(self.bounds[:-1].tolist()):
                stream.seek(begin)
                found[index] = int(stream.readline())
            return found

    @classmethod
    def open(cls, path: Path) -> ExtxyzFile:
        """Find where structures begin, in one pass over the file (about 1 GB/s)."""
        with reading(path), path.open("rb") as stream:
            return cls(path, np.fromiter(accumulate(map(len, _extxyz_parts(stream)), initial=0), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def read(self, index: int) -> Atoms:
        start, end = self.bounds[index : index + 2].tolist()
        with reading(self.path, index):
            with self.path.open("rb") as stream:
                stream.seek(start)
                text = stream.read(end - start)
            return _of_text(text)


def _stream_extxyz(path: Path) -> Iterator[Atoms]:
    """The structures of a compressed file, which ASE would decompress once for every structure."""
    from ase.io.formats import open_with_compression

    with reading(path), open_with_compression(str(path), "rb") as stream:
        for index, text in enumerate(_extxyz_parts(stream)):
            with reading(path, index):
                atoms = _of_text(text)
            yield atoms


def _of_text(text: bytes) -> Atoms:
    from ase.io.extxyz import read_xyz  # slow to import, and only needed here

    return next(read_xyz(StringIO(text.decode(), newline=None), 0))


def _extxyz_parts(stream: BinaryIO) -> Iterator[bytes]:
    """The bytes of each structure, one after another."""
    part, number = b"", 0
    for line in stream:
        if line.lstrip().startswith(b"VEC") and part:  # an old way to give the cell, after the atoms
            part += line
            continue
        if part:
            yield part
            number += 1
        if not line.strip():  # ends the file, as in ase.io.extxyz
            if any(rest.strip() for rest in stream):
                raise ValueError(f"there is an empty line after structure {number - 1}, and more after it")
            return
        lines = [line, *islice(stream, int(line) + 1)]
        if len(lines) < int(line) + 2:
            raise ValueError(f"structure {number} is cut off")
        part = b"".join(lines)
    if part:
        yield part


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


@contextmanager
def reading(path: Path, index: int | None = None) -> Iterator[None]:
    """Whatever a reader raises is a `StructureError` that names the file, and the structure if there is one."""
    what = f"'{path}'" if index is None else f"Structure {index} of '{path}'"
    try:
        yield
    except StructureError:
        raise
    except Exception as error:  # each reader has its own exceptions
        raise StructureError(f"{what} could not be read as structures ({error or type(error).__name__}).") from error


def random_access(path: Path) -> Structures | None:
    """A file opened for reading any structure, None where the format or compression does not allow that."""
    openers: dict[str, Callable[[Path], Structures]] = {"extxyz": ExtxyzFile.open, "db": Database.open}
    found = _format(path)
    return openers[found](path) if found in openers and path.suffix not in COMPRESSED else None


def stream(path: Path) -> Iterator[Atoms]:
    """The structures of a file of any other kind, one after another."""
    import ase.io  # slow to import, and only needed here

    if _format(path) == "extxyz":
        yield from _stream_extxyz(path)
        return
    found = ase.io.iread(path, ":")
    while True:
        with reading(path):
            atoms = next(found, None)
        if atoms is None:
            return
        yield atoms


def _format(path: Path) -> str:
    from ase.io.formats import filetype

    with reading(path):
        return filetype(str(path))
