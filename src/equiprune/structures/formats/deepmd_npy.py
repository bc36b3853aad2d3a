"""DeePMD-kit's systems as folders of .npy files, with one composition or mixed ones (``deepmd/npy``, ``/mixed``)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from equiprune.errors import StructureError
from equiprune.structures.formats.deepmd import ARRAYS, System
from equiprune.structures.formats.format import RandomAccess, reading
from equiprune.structures.formats.rows import RowsOfNpy
from equiprune.structures.sequences import Structures


class DeepmdNpy(RandomAccess):
    """Folders with type.raw, type_map.raw and set.*/*.npy."""

    name: ClassVar[str] = "DeePMD npy"

    def recognises(self, path: Path) -> bool:
        return (path / "type.raw").is_file()

    def open(self, path: Path) -> Structures:
        with reading(path):
            if not (path / "type_map.raw").is_file():
                raise StructureError(
                    f"'{path}' has no type_map.raw, so nothing says which elements its types are. Write one: an "
                    "element a line, in the order of the types of type.raw."
                )
            sets = [folder for folder in sorted(path.glob("set.*")) if folder.is_dir()]
            if not sets:
                raise StructureError(
                    f"'{path}' is a DeePMD system without sets (set.*/coord.npy). Make them from .raw files with "
                    "dpdata: LabeledSystem(folder, fmt='deepmd/raw').to('deepmd/npy', folder)."
                )
            types = np.loadtxt(path / "type.raw", dtype=int, ndmin=1)
            names = (path / "type_map.raw").read_text(encoding="utf-8").split()
            arrays = [
                {name: RowsOfNpy.of(file) for name in ARRAYS if (file := folder / f"{name}.npy").is_file()}
                for folder in sets
            ]
            return System(path, types, names, not (path / "nopbc").exists(), arrays)
