"""DeePMD-kit's systems in an HDF5 file (``deepmd/hdf5``): a group each, with datasets as a folder has files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from equiprune.structures.formats.deepmd import ARRAYS, System
from equiprune.structures.formats.format import RandomAccess, reading
from equiprune.structures.formats.hdf5 import RowsOfHdf5, hdf5_file, is_hdf5
from equiprune.structures.formats.rows import Rows, RowsOfDataset
from equiprune.structures.sequences import Concatenation


class DeepmdHdf5(RandomAccess):
    """Files of one or more systems (.hdf5, .h5)."""

    name: ClassVar[str] = "DeePMD HDF5"

    def recognises(self, path: Path) -> bool:
        if not is_hdf5(path):
            return False
        try:
            with hdf5_file(path) as file:
                return next(_systems(file), None) is not None
        except Exception:  # without h5py, or of a file that may be anything
            return False

    def open(self, path: Path) -> Sequence[Atoms]:
        with reading(path), hdf5_file(path) as file:
            return Concatenation(
                [_system(path, group, lambda data: RowsOfHdf5(path, data.name, len(data))) for group in _systems(file)]
            )

    def stream(self, path: Path) -> Iterator[Atoms]:
        """With the file open all the time: opening takes longer than reading."""
        with reading(path), hdf5_file(path) as file:
            for group in _systems(file):
                yield from _system(path, group, RowsOfDataset)


def _systems(file: Any) -> Iterator[Any]:
    """Groups that are systems, at any depth."""
    if "type.raw" in file:
        yield file
        return
    for child in file.values():
        if hasattr(child, "values"):
            yield from _systems(child)


def _system(path: Path, group: Any, rows: Callable[[Any], Rows]) -> System:
    """A group as a system; ``rows`` are made of each dataset."""
    if "type_map.raw" not in group:
        raise ValueError(f"{group.name} has no type_map.raw, so nothing says which elements its types are")
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in group["type_map.raw"][()]]
    sets = []
    for key in sorted(key for key in group if key.startswith("set.")):
        there = {name: group[key][f"{name}.npy"] for name in ARRAYS if f"{name}.npy" in group[key]}
        sets.append({name: rows(data) for name, data in there.items()})
    types = np.asarray(group["type.raw"][()], dtype=int).ravel()
    return System(path, types, names, "nopbc" not in group, sets)
