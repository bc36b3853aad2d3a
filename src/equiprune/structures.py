"""Reading and checking structures (`ase.Atoms` with labels)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from equiprune.errors import StructureError


def read_structures(source: str | Path) -> Iterator[Atoms]:
    """Stream the structures of a file, an ASE database or a directory of them, one at a time.

    Anything `ase.io.read` reads is accepted, compressed files (.gz, .bz2, .xz) too. Memory does not grow with the
    number of structures.

    Raises:
        StructureError: no such path, an unreadable file, or not a single structure.
    """
    return _stream(Path(source), _files(Path(source)))


def _stream(source: Path, files: Sequence[Path]) -> Iterator[Atoms]:
    import ase.io  # slow to import, and only needed here

    found = False
    for file in files:
        try:
            for atoms in ase.io.iread(file, ":"):
                found = True
                yield atoms
        except StructureError:
            raise
        except Exception as error:  # each of ASE's readers has its own exceptions
            raise StructureError(
                f"'{file}' could not be read as structures ({error or type(error).__name__})."
            ) from error
    if not found:
        raise StructureError(f"'{source}' holds no structures. Give a file that ase.io.read reads, such as extxyz.")


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise StructureError(f"No structures at '{source}': there is no such file or directory.")
    if source.is_dir():
        return sorted(p for p in source.rglob("*") if p.is_file() and not p.name.startswith("."))
    return [source]


def fingerprint(source: str | Path) -> str:
    """sha256 of the bytes behind ``source``: what scores and provenance record."""
    digest = hashlib.sha256()
    for file in _files(Path(source)):
        with file.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    return digest.hexdigest()


def check_structures(structures: Sequence[Atoms], elements: Iterable[int]) -> None:
    """Raise `StructureError` for what no model can evaluate, or this one cannot."""
    known = frozenset(elements)
    for i, atoms in enumerate(structures):
        where = f"Structure {i} ({atoms.get_chemical_formula() or 'empty'})"
        if len(atoms) == 0:
            raise StructureError(f"{where} has no atoms.")
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise StructureError(f"{where} has positions or a cell that are not finite numbers.")
        lattice = atoms.cell.array[atoms.pbc]
        if np.linalg.det(lattice @ lattice.T) < 1e-12:
            raise StructureError(f"{where} is periodic along cell vectors that are zero or parallel.")
        unknown = sorted({int(z) for z in atoms.numbers} - known)
        if unknown:
            raise StructureError(
                f"{where} has {', '.join(chemical_symbols[z] for z in unknown)}, which this model does not know. "
                f"It knows {', '.join(chemical_symbols[z] for z in sorted(known))}."
            )
