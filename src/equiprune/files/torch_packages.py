"""Archives of ``torch.package`` read as data: nothing that they contain is imported or run.

Such an archive holds the code of the packages that its modules are made of beside pickles of them, and is meant to be
run. Here its code is left alone, and a pickle in it is read as `equiprune.files.pickles` reads any other. A tensor is
named in a pickle by a record of its own (torch/package/package_exporter.py).
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from equiprune.errors import CheckpointError
from equiprune.files.pickles import StandIn, pickle_reader


def resources(path: Path) -> frozenset[str]:
    """Names of the files in an archive without the folder that all are in; none for anything that is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(name.partition("/")[2] for name in archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return frozenset()


class Package:
    """An archive that ``torch.package`` wrote.

    Args:
        path: the file.

    Raises:
        CheckpointError: no file, or no archive that is whole.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CheckpointError(f"There is no file '{path}'.")
        try:
            self._reader = torch._C.PyTorchFileReader(str(path))
            self.path, self.names = path, frozenset(self._reader.get_all_records())
        except Exception as error:  # torch has its own
            raise self._unreadable(path, error) from error

    def text(self, name: str) -> str:
        """The content of a text file in it; raises `CheckpointError`."""
        try:
            return bytes(self._reader.get_record(name)).decode()
        except Exception as error:  # torch has its own
            raise self._unreadable(self.path, error) from error

    def module(self, name: str, packages: Collection[str]) -> StandIn:
        """The module in a pickle in it.

        Args:
            name: of the pickle, such as ``model/eager_model.pkl``.
            packages: top-level packages whose classes it may name.

        Raises:
            CheckpointError: cut off, damaged, another class than these packages have, or no module.
        """
        try:
            content = pickle_reader(packages, bytes(self._reader.get_record(name)), self._stored).load()
        except Exception as error:  # torch and pickle have many
            raise self._unreadable(self.path, error) from error
        if not isinstance(content, StandIn):
            raise CheckpointError(f"'{self.path}' holds a {type(content).__name__} in {name}, not a module.")
        return content

    def _stored(self, named: Any) -> Any:
        """The storage of a tensor; an object that the archive makes by its own code is a stand-in."""
        kind, *rest = named
        if kind != "storage":
            return StandIn()
        storage_type, key, _, size = rest
        dtype = _DTYPES[storage_type.origin.rpartition(".")[2]]
        content = bytearray(bytes(self._reader.get_record(f".data/{key}.storage"))) if size else bytearray()
        if len(content) != size * dtype.itemsize:
            raise pickle.UnpicklingError(f"a tensor of {size} numbers has {len(content)} bytes")
        whole = torch.frombuffer(content, dtype=dtype) if size else torch.empty(0, dtype=dtype)
        return torch.storage.TypedStorage(wrap_storage=whole.untyped_storage(), dtype=dtype, _internal=True)

    @staticmethod
    def _unreadable(path: Path, error: Exception) -> CheckpointError:
        reason = (str(error).splitlines() or [""])[0][:160]
        return CheckpointError(
            f"'{path}' is not a readable package; it may be cut off, or hold more than a model "
            f"({type(error).__name__.lstrip('_')}: {reason}). Get it again."
        )


_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""Types of numbers by torch's names of their storages."""
