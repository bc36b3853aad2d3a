"""Neighbour lists on disk, found again by what they are neighbours of.

An entry belongs to a cutoff, to a largest number of neighbours and to the positions, cell and periodicity of one
structure, whatever file or place in it the structure comes from. So data sets, runs and processes share a folder, and
an entry is never out of date.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from equiprune.errors import OutputError
from equiprune.files.atomic import replacing
from equiprune.structures.graph import Neighbours, neighbours

_FORMAT = b"equiprune neighbours 1"
_COLUMNS = 5
"""i, j and three numbers for the image, as little-endian int32: 20 bytes per edge, after a checksum of 4."""


@dataclass(frozen=True)
class NeighbourCache:
    """A folder of neighbour lists; one file per structure and cutoff. What is damaged is found anew."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> NeighbourCache:
        """The folder, made if it is not there. Raises `OutputError` when that is not possible."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The cache '{folder}' cannot be made ({error.strerror}). Choose another.") from error
        return cls(folder)

    def __call__(self, atoms: Atoms, cutoff: float, max_neighbors: int | None = None) -> Neighbours:
        """As `neighbours` finds them, bit by bit."""
        path = self.path(atoms, cutoff, max_neighbors)
        if (stored := _read(path)) is not None:
            return stored
        found = neighbours(atoms, cutoff, max_neighbors)
        NeighbourCache.at(path.parent)
        table = np.concatenate([found.pairs.T, found.images], axis=1).astype("<i4").tobytes()
        with replacing(path) as temporary:
            temporary.write_bytes(zlib.crc32(table).to_bytes(4, "little") + table)
        return found

    def path(self, atoms: Atoms, cutoff: float, max_neighbors: int | None = None) -> Path:
        """The file of an entry."""
        key = hashlib.sha256(_FORMAT if max_neighbors is None else _FORMAT + b" of %d" % max_neighbors)
        for array in (np.array(cutoff, dtype=float), atoms.pbc, atoms.cell.array, atoms.positions):
            key.update(np.ascontiguousarray(array).tobytes())
        name = key.hexdigest()
        return self.folder / name[:2] / name[2:]


def _read(path: Path) -> Neighbours | None:
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    if len(stored) % (4 * _COLUMNS) != 4 or zlib.crc32(stored[4:]).to_bytes(4, "little") != stored[:4]:
        return None
    table = np.frombuffer(stored, dtype="<i4", offset=4).reshape(-1, _COLUMNS)
    return Neighbours(np.ascontiguousarray(table[:, :2].T).astype(np.int64), table[:, 2:].astype(float))
