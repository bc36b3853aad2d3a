"""Reading and checking structures (`ase.Atoms` with labels)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ase import Atoms

from equiprune.errors import OutputError, StructureError
from equiprune.structures.files import random_access, stream
from equiprune.structures.lmdb import LmdbFile, Oc20Lmdb
from equiprune.structures.sequences import Concatenation


def read_structures(source: str | Path) -> Iterator[Atoms]:
    """Stream the structures of a file, an ASE database or a directory of them, one at a time.

    Anything `ase.io.read` reads is accepted, compressed files (.gz, .bz2, .xz) too, LMDB databases (.aselmdb), and the
    Open Catalyst project's LMDB files (.lmdb).

    Raises:
        StructureError: no such path, an unreadable file, or not a single structure.
    """
    return _stream(Path(source), _files(Path(source)))


def open_structures(source: str | Path) -> Sequence[Atoms]:
    """The same structures in the same order, each read whenever it is asked for.

    Of extxyz files, ASE databases (.db) and LMDB files (.aselmdb, .lmdb), memory holds 8 bytes per structure at most.
    Files that are compressed or of another format are read into memory. A directory is its files one after another, by
    name.

    Raises:
        StructureError: as for `read_structures`; a structure in the middle of a file is looked at when it is read.
    """
    parts = [_opened(file) for file in _files(Path(source))]
    if not any(map(len, parts)):
        raise _nothing_in(source)
    return parts[0] if len(parts) == 1 else Concatenation(parts)


def _stream(source: Path, files: Sequence[Path]) -> Iterator[Atoms]:
    found = False
    for file in files:
        opened = _random_access(file)
        for atoms in stream(file) if opened is None else opened:
            found = True
            yield atoms
    if not found:
        raise _nothing_in(source)


def _nothing_in(source: str | Path) -> StructureError:
    return StructureError(f"'{source}' holds no structures. Give a file that ase.io.read reads, such as extxyz.")


def _opened(file: Path) -> Sequence[Atoms]:
    opened = _random_access(file)
    return list(stream(file)) if opened is None else opened


def _random_access(file: Path) -> Sequence[Atoms] | None:
    if file.suffix == ".lmdb":
        return Oc20Lmdb.open(file)
    return LmdbFile.open(file) if file.suffix == ".aselmdb" else random_access(file)


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise StructureError(f"No structures at '{source}': there is no such file or directory.")
    if source.is_dir():
        return sorted(path for path in source.rglob("*") if path.is_file() and not _beside_data(path.name))
    return [source]


def _beside_data(name: str) -> bool:
    """Hidden files, locks of databases, and the sizes that fairchem keeps beside its shards."""
    return name.startswith(".") or name.endswith(("-lock", ".lock")) or name == "metadata.npz"


def check_apart(output: Path | None, sources: Iterable[Path | None]) -> None:
    """Raise `OutputError` if an output lies in a directory of structures: all of its files are read as structures."""
    for source in sources:
        if output and source and source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise OutputError(
                f"'{output}' lies in '{source}', all of whose files are read as structures: what is written there "
                "would be part of the data when the command is repeated. Choose a place outside of it."
            )


def fingerprint(source: str | Path) -> str:
    """sha256 of the bytes behind ``source``: what scores and provenance record."""
    digest = hashlib.sha256()
    for file in _files(Path(source)):
        with file.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    return digest.hexdigest()
