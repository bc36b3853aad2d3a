"""Published checkpoints: found on this machine, or downloaded once, and always the file that was meant."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from equiprune.errors import CheckpointError, OutputError
from equiprune.files.atomic import replacing, sha256_of, write_text
from equiprune.progress import Progress, silent

_TIMEOUT = 30.0
"""Seconds that a server may be silent."""

_PIECE = 1 << 18
"""Bytes between two calls of a progress display."""

_OR_YOURS = "or give the path of a file you have."


@dataclass(frozen=True)
class PublishedFile:
    """A checkpoint that its authors publish."""

    name: str
    """File name in the cache."""
    url: str
    licence: str
    sha256: str = ""
    """Empty where nobody publishes one: the digest of the first file is then recorded and holds for all later ones."""
    elsewhere: tuple[str, ...] = ()
    """Where another tool may have put it, with ``~`` and ``$VAR``; such a file is used where its digest is right."""


@dataclass(frozen=True)
class PackagedFile:
    """A checkpoint inside a package that is installed, or would be."""

    package: str
    licence: str


def fetch(file: PublishedFile, progress: Progress = silent) -> Path:
    """Local path of a published file: from the cache, from where another tool has it, or else downloaded.

    The cache is ``$EQUIPRUNE_CACHE``, ``$XDG_CACHE_HOME/equiprune`` or ``~/.cache/equiprune``. Whatever is returned has
    the right digest. A download appears in the cache whole or not at all; ``progress`` is called with its bytes.

    Raises:
        CheckpointError: the file cannot be downloaded (or not while ``EQUIPRUNE_OFFLINE`` is set), is not the published
            one, or cannot be kept.
    """
    path = place_of(file)
    with _cache_errors(file, path):
        return _found(file, path) or _download(file, path, progress)


def found_here(file: PublishedFile) -> Path | None:
    """Path at which `fetch` finds a file without a network, None where it would have to download it.

    Raises:
        CheckpointError: what lies in the cache is another file, or cannot be read.
    """
    path = place_of(file)
    with _cache_errors(file, path):
        return _found(file, path)


def is_offline() -> bool:
    """True while ``EQUIPRUNE_OFFLINE`` forbids downloads."""
    return os.environ.get("EQUIPRUNE_OFFLINE", "0") not in ("", "0")


def cache_folder() -> Path:
    """The folder of everything that is kept for later; raises `RuntimeError` for a user without a home."""
    own, shared = os.environ.get("EQUIPRUNE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own or Path(shared or "~/.cache", "equiprune")).expanduser().absolute()


def place_of(file: PublishedFile) -> Path:
    """The path of a file in the cache, whether it is there or not."""
    try:
        return cache_folder() / file.name
    except RuntimeError as error:  # a user without a home, as in some containers
        raise CheckpointError(f"'{file.name}' has no cache: {error} Set EQUIPRUNE_CACHE, {_OR_YOURS}") from error


@contextmanager
def _cache_errors(file: PublishedFile, path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the cache into `CheckpointError`."""
    try:
        yield
    except (OSError, OutputError) as error:
        raise CheckpointError(
            f"'{file.name}' cannot be read from or kept in the cache '{path.parent}': {str(error).rstrip('.')}. "
            f"Set EQUIPRUNE_CACHE to a folder that takes files, {_OR_YOURS}"
        ) from error


def _record(file: PublishedFile) -> Path:
    return place_of(file).with_name(f"{file.name}.sha256")


def _expected(file: PublishedFile) -> str:
    """The published digest, the recorded one, or nothing."""
    record = _record(file)
    if file.sha256 or not os.path.exists(record):
        return file.sha256.lower()
    try:
        return record.read_text().split()[0]
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"'{record}' holds no sha256. Remove it to record a new one, {_OR_YOURS}") from error


def _check(file: PublishedFile, found: str, problem: str, remedy: str) -> None:
    """Raise `CheckpointError` unless the digest is the expected one; where none is known, this one is from now on."""
    expected, record = _expected(file), _record(file)
    if not expected:
        write_text(record, f"{found}  {file.name}\n")  # as sha256sum writes it
    elif found != expected:
        accept = "" if file.sha256 else f"remove '{record}' to accept it, "
        raise CheckpointError(f"{problem}: its sha256 is {found}, expected {expected}. {remedy}, {accept}{_OR_YOURS}")


def _found(file: PublishedFile, path: Path) -> Path | None:
    """The file in the cache, or that of another tool if it has the expected digest."""
    if os.path.exists(path):
        _check(file, sha256_of(path), f"'{path}' is not the published file", "Remove it to download it again")
        return path
    expected = _expected(file)
    for candidate in _elsewhere(file) if expected else ():
        with suppress(OSError):
            if sha256_of(candidate) == expected:
                return candidate
    return None


def _elsewhere(file: PublishedFile) -> list[Path]:
    return [Path(os.path.expanduser(os.path.expandvars(place))) for place in file.elsewhere]


def _download(file: PublishedFile, path: Path, progress: Progress) -> Path:
    _check_allowed(file, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        found = _receive(file, temporary, progress)
        _check(file, found, f"What {file.url} sends is not '{file.name}' or is damaged", "Try again later")
    return path


def _check_allowed(file: PublishedFile, path: Path) -> None:
    if not file.url.startswith(("https://", "http://")):
        raise CheckpointError(
            f"'{file.name}' has the URL '{file.url}'. Give one that begins with https://, {_OR_YOURS}"
        )
    if is_offline():
        raise CheckpointError(
            f"'{file.name}' is not on this machine, and EQUIPRUNE_OFFLINE forbids downloading it from {file.url}. "
            f"{_maybe_it(file)}Put it at '{path}', unset EQUIPRUNE_OFFLINE, {_OR_YOURS}"
        )


def _maybe_it(file: PublishedFile) -> str:
    """A sentence about the file of another tool where no digest says that it is the one; empty where there is none."""
    theirs = None if _expected(file) else next((path for path in _elsewhere(file) if path.is_file()), None)
    return f"'{theirs}' may be it, but no digest is published to tell. " if theirs else ""


def _receive(file: PublishedFile, target: Path, progress: Progress) -> str:
    """Write a download to a file; returns its sha256."""
    digest = hashlib.sha256()
    with target.open("wb") as stream:
        for piece in _pieces(file):
            stream.write(piece)
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()


def _pieces(file: PublishedFile) -> Iterator[bytes]:
    """The bytes behind the URL; raises `CheckpointError` unless there are as many as the server announced."""
    with _network_errors(file), urlopen(_request(file), timeout=_TIMEOUT) as response:
        size, received = response.length, 0
        _announce(file, size)
        while piece := response.read(_PIECE):
            received += len(piece)
            yield piece
    if size not in (None, received):
        raise _not_downloaded(file, f"it ended after {received} of {size} bytes")


def _request(file: PublishedFile) -> Request:
    return Request(file.url, headers={"User-Agent": "equiprune"})  # some hosts refuse urllib's own


def _announce(file: PublishedFile, size: int | None) -> None:
    amount = "size unknown" if size is None else f"{size / 1e6:.1f} MB"
    print(f"Downloading {file.name} from {file.url} ({amount}, licence: {file.licence})", file=sys.stderr)


@contextmanager
def _network_errors(file: PublishedFile) -> Iterator[None]:
    """Turn whatever goes wrong on the network into `CheckpointError`."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _not_downloaded(file, f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _not_downloaded(file, str(error.reason if isinstance(error, URLError) else error)) from error


def _not_downloaded(file: PublishedFile, reason: str) -> CheckpointError:
    return CheckpointError(
        f"'{file.name}' could not be downloaded from {file.url}: {reason}. "
        f"Try again, put the file at '{place_of(file)}', {_OR_YOURS}"
    )
