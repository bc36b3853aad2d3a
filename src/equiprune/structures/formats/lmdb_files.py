"""LMDB databases on disk, opened for a moment: several formats keep structures in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from equiprune.errors import StructureError

LOCK = Lock()
"""LMDB refuses to open a file that the process has open, and a moment is enough to read a structure."""


def is_lmdb(path: Path) -> bool:
    """True for a file, or folder with ``data.mdb`` in it, whose name ends with .lmdb."""
    return path.suffix == ".lmdb" and (path.is_file() or (path / "data.mdb").is_file())


def check_lmdb(path: Path) -> None:
    """Raise `StructureError` that says what to install, where lmdb is not."""
    try:
        import lmdb  # noqa: F401
    except ImportError as error:
        raise StructureError(f"'{path}' needs lmdb. Install it: pip install 'equiprune[lmdb]'") from error


@contextmanager
def lmdb_transaction(path: Path) -> Iterator[Any]:
    """A transaction that reads, of a database that nobody else in this process has open meanwhile."""
    with LOCK, lmdb_environment(path) as environment, environment.begin() as transaction:
        yield transaction


@contextmanager
def lmdb_environment(path: Path) -> Iterator[Any]:
    """An LMDB file opened for reading; LMDB itself would end the process where pages are missing."""
    import lmdb

    path = path / "data.mdb" if path.is_dir() else path
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False) as environment:
        if (environment.info()["last_pgno"] + 1) * environment.stat()["psize"] > path.stat().st_size:
            raise ValueError("the file is cut off")
        yield environment
