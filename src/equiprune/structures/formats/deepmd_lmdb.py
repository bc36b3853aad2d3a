"""DeePMD-kit's LMDB databases (``.lmdb``): a frame of arrays under each number, described under ``__metadata__``.

Values are MessagePack, arrays as type, shape and bytes. The suffix is also that of the Open Catalyst project's files,
which have no metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.structures.formats.deepmd import frame
from equiprune.structures.formats.format import RandomAccess, reading
from equiprune.structures.formats.lmdb_files import is_lmdb, lmdb_pages
from equiprune.structures.sequences import Structures

_METADATA = b"__metadata__"
_NAMES = {"coords": "coord", "cells": "box", "energies": "energy", "forces": "force", "virials": "virial"}
"""Names of a system's arrays by those here."""


class DeepmdLmdb(RandomAccess):
    """DeePMD-kit's databases (.lmdb)."""

    name: ClassVar[str] = "DeePMD LMDB"

    def recognises(self, path: Path) -> bool:
        if not is_lmdb(path):
            return False
        try:
            with lmdb_pages(path) as pages:
                return pages.get(_METADATA) is not None
        except (OSError, ValueError):  # of a file that may be anything
            return False

    def open(self, path: Path) -> Structures:
        return DeepmdFrames.open(path)


@dataclass(frozen=True, eq=False)
class DeepmdFrames(Structures):
    """Frames of a database; ``width`` is the number of digits of a key."""

    path: Path
    length: int
    names: Sequence[str]
    width: int

    @classmethod
    def open(cls, path: Path) -> DeepmdFrames:
        """Read the description. Raises `StructureError` without msgpack, and for a damaged file."""
        with reading(path):
            with lmdb_pages(path) as pages:
                about = _unpacked(pages.get(_METADATA) or b"", path)
            if not about.get("type_map"):
                raise ValueError("it has no type_map, so nothing says which elements its types are")
            width = int(str(about.get("frame_idx_fmt", "012d")).strip("0d") or 12)
            return cls(path, int(about["nframes"]), [str(name) for name in about["type_map"]], width)

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Atoms:
        with reading(self.path, index):
            with lmdb_pages(self.path) as pages:
                stored = pages.get(f"{index:0{self.width}d}".encode())
            if stored is None:
                raise ValueError("it is missing")
            value = _unpacked(stored, self.path)
            arrays = {_NAMES.get(name, name): _array(item) for name, item in value.items() if _is_array(item)}
            types = arrays["atom_types"].astype(int).ravel()
            return frame(arrays, types, self.names, bool(arrays.get("box", np.zeros(1)).any()))


def _unpacked(stored: bytes, path: Path) -> Mapping[str, Any]:
    try:
        import msgpack
    except ImportError as error:
        raise StructureError(f"'{path}' needs msgpack. Install it: pip install 'equiprune[deepmd]'") from error
    value = msgpack.unpackb(stored, raw=False, strict_map_key=False)
    if not isinstance(value, dict):
        raise ValueError(f"a frame is a {type(value).__name__}, not named arrays")
    return value


def _is_array(item: Any) -> bool:
    return isinstance(item, dict) and {"type", "shape", "data"} <= item.keys()


def _array(item: Mapping[str, Any]) -> np.ndarray:
    dtype = np.dtype(item["type"])
    if dtype.hasobject:
        raise ValueError("an array holds pickled objects, which are not opened")
    return np.frombuffer(item["data"], dtype).reshape(item["shape"]).astype(float)
