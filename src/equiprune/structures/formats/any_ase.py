"""Every other file that ASE reads: OUTCAR, vasprun.xml, .traj, Quantum ESPRESSO, FHI-aims, ..."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from ase import Atoms

from equiprune.structures.formats.format import Streamed, reading
from equiprune.structures.formats.outputs_of_codes import check_output


class AnyAse(Streamed):
    """Anything that `ase.io.read` reads; the units are ASE's."""

    name: ClassVar[str] = "ASE"

    def recognises(self, path: Path) -> bool:
        return path.is_file()

    def stream(self, path: Path) -> Iterator[Atoms]:
        import ase.io  # slow to import, and only needed here

        with reading(path):
            check_output(path)
            found = ase.io.iread(path, ":")
        while True:
            with reading(path), _without_advertisement():
                atoms = next(found, None)
            if atoms is None:
                return
            yield atoms


@contextmanager
def _without_advertisement() -> Iterator[None]:
    """ASE warns whoever reads FHI-aims of a plugin that will replace its reader."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FHI-aims IO is moving", FutureWarning)
        yield
