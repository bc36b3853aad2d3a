"""Files of structures in which any one can be read at any time, without holding the others.

All that is kept is where each structure begins: 8 bytes. No file stays open in between, so that a set may be larger
than memory, have any number of files, and be read by any number of processes at once.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from itertools import accumulate, islice
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, overload

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError

COMPRESSED = (".gz", ".bz2", ".xz")
_NO_LMDB = "'{}' is an LMDB database, which needs ase-db-backends. Install it: pip install 'equiprune[lmdb]'"
_lmdb_lock = Lock()
"""LMDB refuses to open a file that the process has open, and a moment is enough to read a structure."""


@dataclass(frozen=True)
class Origin:
    """Where a structure is from, as errors say it.

    Attributes:
        number: in the file or files given, counted from 0; None for a structure that is alone.
        use: what it is for: training, validation, replay; empty where that goes without saying.

    >>> str(Origin(148, "training")), Origin(148).of(Atoms("C4H4")), Origin(None).of(Atoms("H"))
    ('Structure 148 for training', 'Structure 148 (C4H4)', 'The structure (H)')
    """

    number: int | None
    use: str = ""

    def __str__(self) -> str:
        which = "The structure" if self.number is None else f"Structure {self.number}"
        return f"{which} for {self.use}" if self.use else which

    def of(self, atoms: Atoms) -> str:
        """With the formula of the structure."""
        return f"{self} ({atoms.get_chemical_formula() or 'empty'})"


def origin(structures: Iterable[Atoms], index: int, use: str = "") -> Origin:
    """Where the structure at a place of a sequence is from; what is no view of another one is its own origin.

    >>> origin(Selection([Atoms("H"), Atoms("C"), Atoms("O")], [2, 0]), 0)
    Origin(number=2, use='')
    """
    found = structures.origin(index) if isinstance(structures, Structures) else Origin(index)
    return found if found.use else replace(found, use=use)


class Structures(Sequence[Atoms], ABC):
    """Structures that are read when they are asked for; a slice is a view of the same kind."""

    @abstractmethod
    def read(self, index: int) -> Atoms:
        """The structure of this number, counted from 0."""

    def origin(self, index: int) -> Origin:
        """Where the structure of this number is from."""
        return Origin(index)

    @overload
    def __getitem__(self, index: int) -> Atoms: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Atoms]: ...
    def __getitem__(self, index: int | slice) -> Atoms | Sequence[Atoms]:
        if isinstance(index, slice):
            return Selection(self, np.arange(len(self))[index])
        return self.read(range(len(self))[index])


@dataclass(frozen=True, eq=False)
class Selection(Structures):
    """Some structures of a sequence, in the order of ``indices``, shape (structures,).

    >>> [str(atoms.symbols) for atoms in Selection([Atoms("H"), Atoms("C"), Atoms("O")], [2, 0])]
    ['O', 'H']
    """

    source: Sequence[Atoms]
    indices: Sequence[int] | np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Atoms:
        return self.source[int(self.indices[index])]

    def origin(self, index: int) -> Origin:
        return origin(self.source, int(self.indices[index]))


@dataclass(frozen=True, eq=False)
class Concatenation(Structures):
    """Sequences one after another: the shards of a data set, counted together; or with ``uses`` sets of their own.

    >>> [str(atoms.symbols) for atoms in Concatenation([[Atoms("H")], [Atoms("C"), Atoms("O")]])]
    ['H', 'C', 'O']
    >>> str(Concatenation([[Atoms("H")], [Atoms("C"), Atoms("O")]], uses=("training", "replay")).origin(2))
    'Structure 1 for replay'
    """

    parts: Sequence[Sequence[Atoms]]
    uses: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", list(accumulate(map(len, self.parts))))

    def __len__(self) -> int:
        ends: list[int] = vars(self)["_ends"]
        return ends[-1] if ends else 0

    def read(self, index: int) -> Atoms:
        part, within = self._place(index)
        return self.parts[part][within]

    def origin(self, index: int) -> Origin:
        if not self.uses:
            return Origin(index)
        part, within = self._place(index)
        return origin(self.parts[part], within, self.uses[part])

    def _place(self, index: int) -> tuple[int, int]:
        """Of which part, and where in it."""
        ends: list[int] = vars(self)["_ends"]
        part = bisect_right(ends, index)
        return part, index - (ends[part - 1] if part else 0)


@dataclass(frozen=True, eq=False)
class Mapped(Structures):
    """What a function makes of each structure of a sequence."""

    source: Sequence[Atoms]
    function: Callable[[Atoms], Atoms]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> Atoms:
        return self.function(self.source[index])

    def origin(self, index: int) -> Origin:
        return origin(self.source, index)


@dataclass(frozen=True, eq=False)
class ExtxyzFile(Structures):
    """An extxyz file; ``bounds`` are the bytes where structures begin, and the end of the last one."""

    path: Path
    bounds: np.ndarray

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
        with reading(path):
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            try:
                rows = connection.execute("SELECT id FROM systems ORDER BY id")
                return cls(path, np.array([row for (row,) in rows], dtype=np.int64))
            finally:
                connection.close()

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Atoms:
        with reading(self.path, index):
            return _of_row(self._connection().get(id=int(self.ids[index])))

    def __iter__(self) -> Iterator[Atoms]:
        with self._connection() as connection:  # connecting takes longer than reading
            for index, row in enumerate(self.ids.tolist()):
                with reading(self.path, index):
                    atoms = _of_row(connection.get(id=row))
                yield atoms

    def _connection(self) -> Any:
        import ase.db

        return ase.db.connect(self.path, use_lock_file=False)


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
        with reading(path), _lmdb_lock:
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
            with _lmdb_lock, lmdb_environment(self.path) as environment, environment.begin() as transaction:
                stored = transaction.get(b"%d" % row)
            if stored is None:
                raise ValueError(f"row {row} is missing")
            return _of_row(AtomsRow(decode_bytestream(stored, decompress=True, json_decode=True) | {"id": row}))


@contextmanager
def lmdb_environment(path: Path) -> Iterator[Any]:
    """An LMDB file opened for reading; LMDB itself would end the process where pages are missing."""
    import lmdb

    with lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False) as environment:
        if (environment.info()["last_pgno"] + 1) * environment.stat()["psize"] > path.stat().st_size:
            raise ValueError("the file is cut off")
        yield environment


def _of_row(row: Any) -> Atoms:
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
    if path.suffix == ".aselmdb":
        return LmdbFile.open(path)
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
