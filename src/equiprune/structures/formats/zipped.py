"""Zip archives of extxyz files, as Matbench Discovery gives out MPtrj and WBM."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ase import Atoms

from equiprune.structures.formats.extxyz import structures_in
from equiprune.structures.formats.extxyz_text import AS_WRITTEN, Symbols
from equiprune.structures.formats.format import Streamed, reading

_SUFFIXES = (".extxyz", ".xyz")


@dataclass(frozen=True)
class Zipped(Streamed):
    """Archives (.zip) of extxyz files, one after another by name; a file of an archive is never unpacked to disk.

    Attributes:
        symbols: how names of atoms are taken that are no elements.
    """

    name: ClassVar[str] = "zip of extxyz"
    symbols: Symbols = AS_WRITTEN

    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".zip" and path.is_file()

    def stream(self, path: Path) -> Iterator[Atoms]:
        with reading(path), zipfile.ZipFile(path) as archive:
            for member in _members(archive):
                with archive.open(member) as stream:
                    yield from structures_in(stream, path / member.filename, self.symbols)


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of structures, by name. Raises `ValueError` for any other file."""
    files = [m for m in archive.infolist() if not m.is_dir() and not _beside(m.filename)]
    for member in files:
        if not member.filename.lower().endswith(_SUFFIXES):
            raise ValueError(f"it has '{member.filename}', and only archives of .extxyz files are read: unpack it")
    return sorted(files, key=lambda member: member.filename)


def _beside(name: str) -> bool:
    """True for a file that operating systems put into archives by themselves."""
    return name.startswith("__MACOSX/") or Path(name).name.startswith(".")
