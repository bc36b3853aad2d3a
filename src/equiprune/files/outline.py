"""The content of a torch file without its numbers: enough to see which architecture it is of, and quick.

Only the pickle inside is read. Whatever it names becomes a lifeless stand-in (see `equiprune.files.pickles`),
tensors too, so nothing that a file contains is imported or run.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO

from equiprune.files.pickles import StandIn, check_memo

_MAGIC = 0x1950A86A20F9469CFC6C
"""Start of files of torch before 1.6, as a pickle; then come a version, facts about the machine, and the
content.
"""
_LARGEST = 1 << 28
"""Bytes of a pickle that is looked into; those of models have kilobytes."""


def outline(path: Path) -> Any:
    """The content of a file that ``torch.save`` wrote, a stand-in for every object; None for any other file.

    Every adapter asks, so it is read once as long as the file is the same. Nobody may change what is returned.
    """
    try:
        found = path.stat()
        return _outline(path.absolute(), found.st_ino, found.st_size, found.st_mtime_ns)
    except Exception:  # of a file that may be anything, nothing is known before
        return None


def entry(content: Any, *keys: str) -> Any:
    """The value of nested dictionaries under these keys; None where there is no such entry.

    >>> entry({"config": {"model": "escn"}}, "config", "model"), entry([1], "config")
    ('escn', None)
    """
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


@lru_cache(maxsize=1)
def _outline(path: Path, *_same_file: int) -> Any:
    with path.open("rb") as stream:
        return _of_archive(stream) if zipfile.is_zipfile(stream) else _of_old_file(stream)


def _of_archive(stream: BinaryIO) -> Any:
    with zipfile.ZipFile(stream) as archive:
        names = set(archive.namelist())
        [pickled] = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        described = archive.getinfo(pickled)
        program = pickled.replace("data.pkl", "constants.pkl") in names  # TorchScript, which is no data
        if program or described.compress_type != zipfile.ZIP_STORED or described.file_size > _LARGEST:
            return None
        return _Reader(BytesIO(archive.read(pickled))).load()


def _of_old_file(stream: BinaryIO) -> Any:
    stream.seek(0)
    if _Reader(stream).load() != _MAGIC:
        return None
    *_, content = (_Reader(stream).load() for _ in range(3))
    return content


class _Anything(StandIn):
    """A stand-in that takes whatever a pickle puts into it."""

    def __new__(cls, *args: Any, **_: Any) -> _Anything:
        return super().__new__(cls, *args)  # type: ignore[return-value]

    def __init__(self, *_: Any, **__: Any) -> None:
        """As in `StandIn`."""

    def __call__(self, *_: Any) -> _Anything:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nothing is kept."""

    def append(self, item: Any) -> None:
        """Nothing is kept."""

    def extend(self, items: Iterable[Any]) -> None:
        """Nothing is kept."""


class _Reader(pickle.Unpickler):
    def __init__(self, stream: IO[bytes]) -> None:
        check_memo(stream)
        super().__init__(stream)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return type(name.rpartition(".")[2], (_Anything,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        return _Anything()
