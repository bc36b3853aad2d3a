"""Arrays on disk of which one row is read at a time: .npy files, those inside .npz files, and HDF5 datasets."""

from __future__ import annotations

import shutil
import weakref
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import IO, Any

import numpy as np

_LOCAL_HEADER = 30
"""Bytes of a member's header in a .zip file before its name."""
_CHUNK = 1 << 20
"""Bytes that are unpacked at a time."""


class Rows(ABC):
    """An array whose first axis counts structures; a row is in double precision, and its shape is the array's."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, index: int) -> np.ndarray:
        """The numbers of one structure."""


@dataclass(frozen=True)
class RowsOfNpy(Rows):
    """An array as `numpy.save` writes it, that begins ``offset`` bytes into a file."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @classmethod
    def of(cls, path: Path, begin: int = 0) -> RowsOfNpy:
        """Read the header. Raises `ValueError` where there is none, and for pickled objects."""
        with path.open("rb") as stream:
            stream.seek(begin)
            shape, fortran, dtype = header(stream)
            if dtype.hasobject:
                raise ValueError(f"{path.name} holds pickled objects, which are not opened")
            found = cls(path, stream.tell(), shape, dtype, fortran)
            stream.seek(0, 2)
            if stream.tell() < found.offset + dtype.itemsize * int(np.prod(shape)):
                raise ValueError(f"{path.name} is cut off")
        return found

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    def row(self, index: int) -> np.ndarray:
        shape = self.shape or (1,)
        if self.fortran and len(shape) > 1:  # a row is scattered
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, shape, "F")
            return np.array(mapped[index], dtype=float)
        count = int(np.prod(shape[1:]))
        with self.path.open("rb", buffering=0) as stream:  # sooner than to map a file for one row of it
            stream.seek(self.offset + range(shape[0])[index] * count * self.dtype.itemsize)
            content = stream.read(count * self.dtype.itemsize)
        return np.frombuffer(content, self.dtype, count).reshape(shape[1:]).astype(float)


@dataclass(frozen=True)
class RowsOfDataset(Rows):
    """A dataset of an open HDF5 file."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def row(self, index: int) -> np.ndarray:
        return np.array(self.dataset[index], dtype=float)


class RowsUnpacked(Rows):
    """An array that is compressed in an .npz file, in a temporary file that is removed with it.

    A copy in another process, such as a worker that loads structures, unpacks its own.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._source = path, name
        try:
            folder = mkdtemp(prefix="equiprune-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._rows = _unpacked(path, name, Path(folder) / "numbers")
        except OSError as error:
            raise ValueError(
                f"{name} is compressed and cannot be unpacked into '{gettempdir()}' ({error.strerror}): free space "
                "there, name another folder by the environment variable TMPDIR, or save it without compression"
            ) from error

    def __reduce__(self) -> tuple[type[RowsUnpacked], tuple[Path, str]]:
        return RowsUnpacked, self._source

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> np.ndarray:
        return self._rows.row(index)


class RowsInOrder(Rows):
    """An array that is compressed in an .npz file: each row is decompressed when it is come to, an earlier one anew."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name, self._next = path, name, 0
        self._rewind()

    def __len__(self) -> int:
        return self._shape[0]

    def row(self, index: int) -> np.ndarray:
        if index < self._next:
            self._rewind()
        for _ in range(self._next, index + 1):
            content = self._stream.read(self._bytes)
        self._next = index + 1
        if len(content) != self._bytes:
            raise ValueError(f"{self._name} is cut off")
        return np.frombuffer(content, self._dtype).reshape(self._shape[1:]).astype(float)

    def _rewind(self) -> None:
        self._stream = zipfile.ZipFile(self._path).open(self._name)  # noqa: SIM115  open as long as there are rows
        self._shape, _, self._dtype = header(self._stream)
        self._bytes, self._next = self._dtype.itemsize * int(np.prod(self._shape[1:])), 0


def _unpacked(path: Path, name: str, to: Path) -> RowsOfNpy:
    """The numbers of a member of an .npz file, written to a file of their own."""
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream, to.open("wb") as file:
        shape, fortran, dtype = header(stream)
        left = dtype.itemsize * int(np.prod(shape))
        while left:
            content = stream.read(min(left, _CHUNK))
            if not content:
                raise ValueError(f"{name} is cut off")
            file.write(content)
            left -= len(content)
    return RowsOfNpy(to, 0, shape, dtype, fortran)


def in_order(path: Path, name: str) -> Rows:
    """A compressed member of an .npz file as rows in order, or unpacked where Fortran's order has no rows."""
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        _, fortran, _ = header(stream)
    return RowsUnpacked(path, name) if fortran else RowsInOrder(path, name)


def header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order of Fortran, and type of an array that `numpy.save` wrote; the stream is then at its numbers."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def npz_content(
    path: Path, compressed: Callable[[Path, str], Rows] = RowsUnpacked
) -> tuple[dict[str, Rows], dict[str, str]]:
    """The arrays of numbers in an .npz file, and the texts beside them such as units, by name.

    Arrays that are not compressed stay on disk, and ``compressed`` makes rows of the others. What is neither numbers
    nor text is left out: nothing is unpickled.
    """
    arrays, texts = dict[str, Rows](), dict[str, str]()
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as stream:
                shape, _, dtype = header(stream)
            if dtype.kind in "fiu" and shape:
                stored = member.compress_type == zipfile.ZIP_STORED
                made = RowsOfNpy.of(path, _begin(path, member)) if stored else compressed(path, member.filename)
                arrays[name] = made
            elif dtype.kind in "US" and not shape:
                with archive.open(member) as stream:
                    value = np.lib.format.read_array(stream, allow_pickle=False).item()
                texts[name] = value.decode() if isinstance(value, bytes) else value
    return arrays, texts


def _begin(path: Path, member: zipfile.ZipInfo) -> int:
    """The byte at which a member's own content begins."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        local = stream.read(_LOCAL_HEADER)
    name, extra = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
    return member.header_offset + _LOCAL_HEADER + name + extra
