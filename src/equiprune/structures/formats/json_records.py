"""JSON files of any size, read one record at a time."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from equiprune.errors import StructureError

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_LOOKED_AT = 1 << 20
"""Bytes, decompressed, in which a format shows."""

_BLOCK, _DEEPEST = 4096, 5000
"""Bytes after which the depth is counted, and levels that no set has."""


def opened(path: Path) -> IO[bytes]:
    """A file's bytes, decompressed where its suffix says so."""
    stream: IO[bytes] = _OPENERS.get(path.suffix, open)(path, "rb")
    return stream


def is_json(path: Path) -> bool:
    """True for a file with the suffix .json, compressed or not."""
    return path.is_file() and (path if path.suffix not in _OPENERS else path.with_suffix("")).suffix == ".json"


def beginning(path: Path) -> bytes:
    """The first part of a file, without white space before it; empty where it cannot be read."""
    try:
        with opened(path) as stream:
            return stream.read(_LOOKED_AT).lstrip()
    except (OSError, EOFError, ValueError, lzma.LZMAError):
        return b""


@contextmanager
def records(path: Path, prefix: str, *, named: bool) -> Iterator[Iterator[Any]]:
    """The values at a place in a JSON file, with ``named`` as pairs of key and value, each when it is asked for.

    Raises:
        StructureError: ijson is not there.
        ValueError: the file is cut off, when that is come to.
    """
    try:
        import ijson
    except ImportError as error:
        raise StructureError(f"'{path}' needs ijson. Install it: pip install 'equiprune[json]'") from error
    with opened(path) as stream:
        yield _whole((ijson.kvitems if named else ijson.items)(_Shallow(stream), prefix, use_float=True))


class _Shallow:
    """A stream that ends at what is nested too deep: ijson keeps the path to where it is, once for every level."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.depth = stream, 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes. Raises `ValueError` for brackets that are opened and not closed thousands of times."""
        content = self.stream.read(size)
        for start in range(0, len(content), _BLOCK):
            block = content[start : start + _BLOCK]
            self.depth += block.count(b"[") + block.count(b"{") - block.count(b"]") - block.count(b"}")
            if self.depth > _DEEPEST:
                raise ValueError(f"its lists are nested more than {_DEEPEST:,} deep")
        return content


def _whole(found: Iterator[Any]) -> Iterator[Any]:
    from ijson import IncompleteJSONError

    try:
        yield from found
    except IncompleteJSONError as error:
        raise ValueError(f"it is cut off or no JSON: {' '.join(str(error).split())}") from error
