"""Every other file that ASE reads: OUTCAR, vasprun.xml, .traj, CP2K, Quantum ESPRESSO, FHI-aims, ..."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ase import Atoms

from equiprune.structures.formats.format import Streamed, reading


class AnyAse(Streamed):
    """Anything that `ase.io.read` reads; the units are ASE's."""

    name: ClassVar[str] = "ASE"

    def recognises(self, path: Path) -> bool:
        return path.is_file()

    def stream(self, path: Path) -> Iterator[Atoms]:
        import ase.io  # slow to import, and only needed here

        with reading(path):
            found = ase.io.iread(path, ":")
        while True:
            with reading(path):
                atoms = next(found, None)
            if atoms is None:
                return
            yield atoms
