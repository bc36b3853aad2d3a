"""Extended XYZ text: any structure of a file at any time, those of a compressed one in order.

All that is kept is where each structure begins: 8 bytes. No file stays open in between, so that a set may be larger
than memory, have any number of files, and be read by any number of processes at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from ase import Atoms

from equiprune.structures.formats.by_name import COMPRESSED, ase_format
from equiprune.structures.formats.extxyz_text import AS_WRITTEN, Symbols, atoms_in, extxyz_parts, number_of_atoms
from equiprune.structures.formats.format import Format, reading
from equiprune.structures.sequences import Structures


@dataclass(frozen=True)
class Extxyz(Format):
    """Extended and plain XYZ files (.extxyz, .xyz), also compressed (.gz, .bz2, .xz).

    Attributes:
        symbols: how names of atoms are taken that are no elements.
    """

    name: ClassVar[str] = "extxyz"
    symbols: Symbols = AS_WRITTEN

    def recognises(self, path: Path) -> bool:
        return path.is_file() and ase_format(path) == "extxyz"

    def open(self, path: Path) -> Sequence[Atoms]:
        return list(self.stream(path)) if path.suffix in COMPRESSED else ExtxyzFile.open(path, self.symbols)

    def stream(self, path: Path) -> Iterator[Atoms]:
        """Without ASE, which would decompress a compressed file once for every structure."""
        from ase.io.formats import open_with_compression  # slow to import

        with reading(path), open_with_compression(str(path), "rb") as stream:
            yield from structures_in(stream, path, self.symbols)


def structures_in(stream: IO[bytes], path: Path, symbols: Symbols) -> Iterator[Atoms]:
    """The structures in the bytes of extxyz text; ``path`` is for messages."""
    for index, text in enumerate(extxyz_parts(stream)):
        with reading(path, index):
            atoms = atoms_in(text, symbols)
        yield atoms


@dataclass(frozen=True, eq=False)
class ExtxyzFile(Structures):
    """An extxyz file; ``bounds`` are the bytes where structures begin, and the end of the last one."""

    path: Path
    bounds: np.ndarray
    symbols: Symbols = AS_WRITTEN

    @property
    def sizes(self) -> np.ndarray:
        """From the first line of each structure."""
        with reading(self.path), self.path.open("rb") as stream:
            found = np.empty(len(self), dtype=np.int64)
            for index, begin in enumerate(self.bounds[:-1].tolist()):
                stream.seek(begin)
                found[index] = number_of_atoms(stream.readline(), index)
            return found

    @classmethod
    def open(cls, path: Path, symbols: Symbols = AS_WRITTEN) -> ExtxyzFile:
        """Find where structures begin, in one pass over the file (about 1 GB/s)."""
        with reading(path), path.open("rb") as stream:
            return cls(
                path, np.fromiter(accumulate(map(len, extxyz_parts(stream)), initial=0), dtype=np.int64), symbols
            )

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def read(self, index: int) -> Atoms:
        start, end = self.bounds[index : index + 2].tolist()
        with reading(self.path, index):
            with self.path.open("rb") as stream:
                stream.seek(start)
                text = stream.read(end - start)
            return atoms_in(text, self.symbols)
