"""Writing files so that no reader ever sees half of one, and reading them with clear errors."""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equiprune.errors import CheckpointError, OutputError

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None  # type: ignore[assignment]


def check_writable(path: Path) -> None:
    """Raise `OutputError` before long work: the path exists already, or its folder cannot be written."""
    if os.path.lexists(path):
        raise OutputError(f"'{path}' exists and is never overwritten. Choose another output or remove it.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"'{path}' cannot be written: there is no folder '{folder}'. Create it first.")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permission bits alone say little: root, read-only mounts, /proc
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: '{folder}' takes no files ({error.strerror}).") from error


KEPT = "What was finished is kept; repeat the command to go on."
"""Words for long work that could not be written."""


@contextmanager
def writing(path: Path, kept: str = "Nothing was changed.") -> Iterator[None]:
    """An `OSError` meanwhile becomes an `OutputError` with the path, the reason and what is kept."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"'{path}' could not be written: {reason(error)}. {kept}") from error


@contextmanager
def replacing(path: Path, *, new: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it when the block ends well and removed when it does not.

    Args:
        path: a file that is replaced, or nothing yet.
        new: never replace what another process has written there meanwhile.

    Raises:
        OutputError: the disk is full or the folder cannot be written; a folder is there, or anything if it is ``new``.
    """
    try:
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written ({error.strerror}).") from error
    temporary = holder / path.name
    try:
        with writing(path):
            yield temporary
            if path.is_dir() or (new and os.path.lexists(path)):
                raise OutputError(f"'{path}' exists and is never overwritten. Choose another output or remove it.")
            os.replace(temporary, path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def reason(error: OSError) -> str:
    """Words for why something could not be written.

    >>> reason(OSError(errno.ENOSPC, "No space left on device"))
    'the disk is full'
    """
    return "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)


def write_text(path: Path, text: str, *, new: bool = False) -> None:
    """Write a text file in one step; one that is ``new`` replaces nothing."""
    with replacing(path, new=new) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, new: bool = False) -> None:
    """Write a JSON file in one step; one that is ``new`` replaces nothing."""
    write_text(path, as_json(value) + "\n", new=new)


def as_json(value: Any) -> str:
    """JSON text that every parser reads: NaN and infinities, which JSON does not have, become null."""
    return json.dumps(_without_nan(value), indent=1, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file; raises `CheckpointError` saying which ``what`` is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no {what} at '{path}'.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is not a {what}: it is not readable JSON ({error}).") from error


def _finite(text: str) -> float:
    """A number of a JSON file; `as_json` writes no NaN and no infinity, and whoever reads one expects none."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has {text} where a number belongs")
    return value


@contextmanager
def holding(folder: Path, refusal: str) -> Iterator[int | None]:
    """Nobody else holds the folder meanwhile; gives the open descriptor that holds it.

    A process that is given the descriptor holds the folder too, and longer if it lives longer. The kernel lets go when
    the last of them has ended, however it ended. Windows has no such descriptors: None is given, and a file ``.lock``
    in the folder is held by this process alone.

    Raises:
        OutputError: another process holds the folder; ``refusal`` says what that process does.
    """
    with _by_file(folder, refusal) if _fcntl is None else _by_descriptor(folder, refusal) as handle:
        yield handle


@contextmanager
def _by_descriptor(folder: Path, refusal: str) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise _held(refusal) from error
    except OSError:  # a file system without locks
        pass
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _by_file(folder: Path, refusal: str) -> Iterator[None]:
    from filelock import FileLock, Timeout  # only here is it needed

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise _held(refusal) from error
    except OSError:  # a file system without locks
        pass
    try:
        yield None
    finally:
        lock.release()


def _held(refusal: str) -> OutputError:
    return OutputError(f"{refusal} Wait for it, or end it first.")


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_folder(path: Path, what: str) -> None:
    """Make a folder, with those that it is in, unless it is there; raises `OutputError` where it cannot be ``what``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be {what} ({error.strerror}).") from error


def spare(folder: Path) -> Path:
    """The place where `set_aside` would move things: the first of ``folder.1``, ``folder.2``, ... that is free."""
    taken = (folder.with_name(f"{folder.name}.{i}") for i in range(1, 1_000_000))
    return next(path for path in taken if not path.exists())


def set_aside(folder: Path, paths: Sequence[Path]) -> None:
    """Make room and keep what is in the way: the whole folder, or some of what is in it."""
    aside = spare(folder)
    if folder in paths:
        folder.rename(aside)
        return
    aside.mkdir()
    for path in paths:
        path.rename(aside / path.name)
