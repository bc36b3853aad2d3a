"""Text files, compressed or not, line by line; what is damaged is said with the line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from equiprune.errors import StructureError

_OPENERS: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, UnicodeDecodeError)


def lines_of(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, counted from 1, without line breaks; one line is in memory at a time.

    ``.gz``, ``.bz2`` and ``.xz`` are unpacked on the way.

    Raises:
        StructureError: there is no such file, it is damaged or not text, or it is empty; ``what`` names what it is not.
    """
    if not path.is_file():
        raise StructureError(f"There is no {what} at '{path}'.")
    number = 0
    try:
        with _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.rstrip("\r\n")
    except _DAMAGE as error:
        raise damaged(path, number + 1, what, _reason(error)) from error
    if not number:
        raise StructureError(f"'{path}' is empty. Give {what}.")


def damaged(path: Path, line: int, what: str, why: str) -> StructureError:
    """The error for a line that is not part of such a file."""
    return StructureError(f"'{path}', line {line}: {why}. This is no complete {what}: get the file again.")


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "the file is cut off"
    return "not text in UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error})"
