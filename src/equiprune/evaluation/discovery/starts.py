"""Structures that relaxations start from, by the name of the material.

Matbench Discovery's ``wbm-initial-atoms.extxyz.zip`` holds one extxyz file for each material, called after it, whose
``info`` has the name as ``material_id`` (data/pmg_structs_to_ase_extxyz.py of janosh/matbench-discovery). Any of them
is read without the others.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from ase import Atoms

from equiprune.errors import StructureError
from equiprune.structures.reading import open_structures

_NAME = re.compile(r'\bmaterial_id="?([^"\s]+)"?')
_DAMAGE = (BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)
"""Errors of zipfile for what is damaged, or packed in ways that it does not know."""


@dataclass(frozen=True)
class ZippedStructures(Mapping[str, Atoms]):
    """Structures in a zip file, by name, each read when it is asked for.

    Attributes:
        path: of the zip file.
        members: names of the materials, and of their files in it.
    """

    path: Path
    members: Mapping[str, str]

    @classmethod
    def open(cls, path: Path) -> ZippedStructures:
        """List what is in the file; where files are called otherwise than materials, look into each.

        Raises:
            StructureError: it is no zip file, or holds no extxyz file.
        """
        try:
            with ZipFile(path) as archive:
                files = [name for name in archive.namelist() if name.endswith((".extxyz", ".xyz"))]
                if not files:
                    raise StructureError(f"'{path}' holds no extxyz file. Give a zip file with one for each material.")
                return cls(path, _by_name(archive, files))
        except _DAMAGE as error:
            raise StructureError(f"'{path}' could not be read as a zip file ({error}). Get the file again.") from error

    def __getitem__(self, name: str) -> Atoms:
        from ase.io import read  # slow to import, and only needed here

        member = self.members[name]
        try:
            with self._archive.open(member) as stream:
                atoms: Atoms = read(TextIOWrapper(stream, encoding="utf-8"), format="extxyz")
        except Exception as error:  # zipfile and the reader have exceptions of their own
            raise StructureError(
                f"'{member}' in '{self.path}' could not be read as a structure ({error}). Get the file again."
            ) from error
        return atoms

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def _archive(self) -> ZipFile:
        return ZipFile(self.path)  # listing hundreds of thousands of files takes seconds


def _by_name(archive: ZipFile, files: list[str]) -> dict[str, str]:
    stems = {PurePosixPath(name).stem: name for name in files}
    if _name_in(archive, files[0]) in (None, PurePosixPath(files[0]).stem):
        return stems
    return {_name_in(archive, name) or PurePosixPath(name).stem: name for name in files}


def _name_in(archive: ZipFile, file: str) -> str | None:
    """The material that a file says it is of, in its second line."""
    with archive.open(file) as stream:
        stream.readline()
        found = _NAME.search(stream.readline().decode("utf-8", "replace"))
    return found[1] if found else None


def open_starts(path: Path) -> Mapping[str, Atoms]:
    """Structures by name: of a zip file, or of any file of structures whose ``info`` has ``material_id`` or ``id``.

    Raises:
        StructureError: it cannot be read, or a structure has no name.
    """
    if path.suffix == ".zip":
        if not path.is_file():
            raise StructureError(f"There is no zip file of structures at '{path}'.")
        return ZippedStructures.open(path)
    return named(open_structures(path))


def named(structures: Iterable[Atoms]) -> dict[str, Atoms]:
    """Structures by ``material_id`` or ``id`` of their ``info``; raises `StructureError` for one without."""
    found = {}
    for number, atoms in enumerate(structures):
        name = atoms.info.get("material_id", atoms.info.get("id"))
        if name is None:
            raise StructureError(
                f"Structure {number} ({atoms.get_chemical_formula()}) has neither material_id nor id in its info, and "
                "so nothing says which material it is."
            )
        found[str(name)] = atoms
    return found
