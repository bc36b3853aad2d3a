"""HDF5 files: opening one, and datasets of which one row is read at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equiprune.errors import StructureError
from equiprune.structures.formats.rows import Rows

SUFFIXES = (".hdf5", ".h5")
_MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """True for a file that begins as HDF5 files do, or is called like one."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC or path.suffix in SUFFIXES


@contextmanager
def hdf5_file(path: Path) -> Iterator[Any]:
    """A file opened for reading. Raises `StructureError` without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise StructureError(f"'{path}' needs h5py. Install it: pip install 'equiprune[hdf5]'") from error
    with h5py.File(path, "r") as file:
        yield file


@dataclass(frozen=True)
class RowsOfHdf5(Rows):
    """A dataset of an HDF5 file, by its place there."""

    path: Path
    place: str
    length: int

    def __len__(self) -> int:
        return self.length

    def row(self, index: int) -> np.ndarray:
        with hdf5_file(self.path) as file:
            return np.array(file[self.place][index], dtype=float)
