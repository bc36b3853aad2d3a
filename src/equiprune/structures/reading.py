"""Reading and checking structures (`ase.Atoms` with labels)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ase import Atoms

from equiprune.errors import OutputError, StructureError
from equiprune.structures.checks import check_elements
from equiprune.structures.formats import format_of
from equiprune.structures.formats.extxyz_text import AS_WRITTEN, Symbols
from equiprune.structures.formats.format import Format
from equiprune.structures.sequences import Concatenation


def read_structures(source: str | Path, symbols: Symbols = AS_WRITTEN) -> Iterator[Atoms]:
    """Stream the structures of a file, a database or a directory of them, one at a time, in eV and Angstrom.

    Every format of `equiprune.structures.formats` is read, see docs/formats.md; compressed text (.gz, .bz2, .xz, .zip)
    too. ``symbols`` say how names of atoms are taken in text that are no elements.

    Raises:
        StructureError: no such path, an unreadable file, or not a single structure.
    """
    return _stream(Path(source), _parts(Path(source), symbols))


def open_structures(source: str | Path, symbols: Symbols = AS_WRITTEN) -> Sequence[Atoms]:
    """The same structures in the same order, each read whenever it is asked for.

    Of formats that allow it (docs/formats.md), memory holds 8 bytes per structure. Files that are compressed or of
    another format are read into memory. A directory is its files one after another, by name.

    Raises:
        StructureError: as for `read_structures`; a structure in the middle of a file is looked at when it is read.
    """
    opened = [found.open(path) for path, found in _parts(Path(source), symbols)]
    if not any(map(len, opened)):
        raise _nothing_in(source)
    return opened[0] if len(opened) == 1 else Concatenation(opened)


def _stream(source: Path, parts: Sequence[tuple[Path, Format]]) -> Iterator[Atoms]:
    number = 0
    for path, found in parts:
        for atoms in found.stream(path):
            check_elements(atoms, f"Structure {number} of '{source}'")
            number += 1
            yield atoms
    if not number:
        raise _nothing_in(source)


def _nothing_in(source: str | Path) -> StructureError:
    return StructureError(f"'{source}' holds no structures. Give a file that ase.io.read reads, such as extxyz.")


def _parts(source: Path, symbols: Symbols) -> list[tuple[Path, Format]]:
    """Files, and folders that are one data set, with the format of each."""
    _check_exists(source)
    found = format_of(source, symbols)
    if found is not None:
        return [(source, found)]
    inside = sorted(path for path in source.iterdir() if not (_beside_data(path.name) or _linked_folder(path)))
    return [part for path in inside for part in _parts(path, symbols)]


def _linked_folder(path: Path) -> bool:
    """A link to a folder, which may lead round in a circle."""
    return path.is_symlink() and path.is_dir()


def _check_exists(source: Path) -> None:
    if not source.exists():
        raise StructureError(f"No structures at '{source}': there is no such file or directory.")


def _files(source: Path) -> list[Path]:
    _check_exists(source)
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
