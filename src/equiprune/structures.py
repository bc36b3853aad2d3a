"""Reading and checking structures (`ase.Atoms` with labels)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from equiprune.adapters.graph import coinciding
from equiprune.errors import OutputError, StructureError
from equiprune.oc20_lmdb import Oc20Lmdb
from equiprune.structure_files import Concatenation, Origin, origin, random_access, stream


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
    return Oc20Lmdb.open(file) if file.suffix == ".lmdb" else random_access(file)


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


def fixed(atoms: Atoms) -> np.ndarray:
    """Which atoms a structure's constraints hold where they are: (atoms,) booleans.

    >>> from ase.constraints import FixAtoms
    >>> fixed(Atoms("H3", constraint=FixAtoms([1]))).tolist()
    [False, True, False]
    """
    held = np.zeros(len(atoms), dtype=bool)
    if not atoms.constraints:
        return held
    from ase.constraints import FixAtoms  # slow to import, and few structures have any

    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            held[constraint.index] = True
    return held


def fingerprint(source: str | Path) -> str:
    """sha256 of the bytes behind ``source``: what scores and provenance record."""
    digest = hashlib.sha256()
    for file in _files(Path(source)):
        with file.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    return digest.hexdigest()


def check_structures(
    structures: Iterable[Atoms], elements: Iterable[int], origins: Sequence[Origin] | None = None
) -> None:
    """Raise `StructureError` for what no model can evaluate, or this one cannot.

    ``origins`` say where the structures are from; unless given, that is where they are in ``structures``.
    """
    known = frozenset(elements)
    for i, atoms in enumerate(structures):
        _check(atoms, known, (origins[i] if origins else origin(structures, i)).of(atoms))


def checked(structures: Iterable[Atoms], elements: Iterable[int], use: str = "") -> Iterator[tuple[Origin, Atoms]]:
    """The structures and where they are from, each once it is known to be fit for its ``use``.

    Raises as `check_structures` does.
    """
    known = frozenset(elements)
    for i, atoms in enumerate(structures):
        place = origin(structures, i, use)
        _check(atoms, known, place.of(atoms))
        yield place, atoms


def _check(atoms: Atoms, known: frozenset[int], where: str) -> None:
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
    if pair := coinciding(atoms):
        raise StructureError(f"{where} has atoms {pair[0]} and {pair[1]} at the same place. Remove one.")
