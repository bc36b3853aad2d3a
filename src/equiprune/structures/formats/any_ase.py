"""Every other file that ASE reads: OUTCAR, vasprun.xml, .traj, CP2K, Quantum ESPRESSO, FHI-aims, ..."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ase import Atoms

from equiprune.structures.formats.by_name import ase_format
from equiprune.structures.formats.format import Streamed, reading


class AnyAse(Streamed):
    """Anything that `ase.io.read` reads; the units are ASE's."""

    name: ClassVar[str] = "ASE"

    def recognises(self, path: Path) -> bool:
        return path.is_file()

    def stream(self, path: Path) -> Iterator[Atoms]:
        import ase.io  # slow to import, and only needed here

        with reading(path):
            if ase_format(path) == "vasp-xml":
                check_vasprun(path)
            found = ase.io.iread(path, ":")
        while True:
            with reading(path):
                atoms = next(found, None)
            if atoms is None:
                return
            yield atoms


def check_vasprun(path: Path) -> None:
    """Raise `ValueError` for a vasprun.xml without its end, from which ASE takes what there is and says nothing."""
    from ase.io.formats import open_with_compression  # slow to import

    steps, last = 0, b""
    with open_with_compression(str(path), "rb") as stream:
        for line in stream:
            steps += line.count(b"</calculation>")
            last = line.strip() or last
    if not last.endswith(b"</modeling>"):
        raise ValueError(
            f"it ends before </modeling>: VASP was interrupted, still runs, or the file is cut off. {steps} ionic "
            "steps are complete; to use them, delete what follows the last </calculation> and write </modeling> there"
        )
