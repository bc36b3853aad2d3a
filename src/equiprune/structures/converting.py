"""Structures of any format into one file, with what was kept and what was skipped and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols

from equiprune.errors import OutputError, StructureError
from equiprune.files.atomic import check_writable, replacing
from equiprune.progress import Progress, silent
from equiprune.structures.checks import checked
from equiprune.structures.formats.extxyz_text import AS_WRITTEN, Symbols
from equiprune.structures.labels import QUANTITIES, SOURCES, LabelCounts, LabelKeys, Labels, label_sources, labels_of
from equiprune.structures.reading import read_structures
from equiprune.structures.sequences import Origin

_BATCH = 2000
"""Structures that are written at once."""
_ALL = range(1, len(chemical_symbols))
NO_KEYS = LabelKeys()
_KEPT_BY_ASE = frozenset(("numbers", "positions", "momenta", "tags", "masses", "initial_magmoms", "initial_charges"))
"""Arrays that a row of an ASE database has a place for."""


@dataclass(frozen=True)
class Conversion:
    """Outcome of a conversion.

    Attributes:
        path: the file that was written.
        labels: labels of the structures that were kept, by where they are from.
        skipped: number of structures that were left out, by why.
        examples: the first structure that was left out and what it has, by why.
    """

    path: Path
    labels: LabelCounts
    skipped: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """The number of structures in the file."""
        return self.labels.structures

    def to_json(self) -> dict[str, Any]:
        """The same as JSON."""
        found = {q: sources for q in QUANTITIES if (sources := self.labels.of_quantity(q))}
        skipped = {reason: {"structures": n, "first": self.examples[reason]} for reason, n in self.skipped.items()}
        return {"kept": self.kept, "labels": found, "skipped": skipped, "written": str(self.path)}


def convert(
    sources: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    keys: LabelKeys = NO_KEYS,
    symbols: Symbols = AS_WRITTEN,
    labelled_only: bool = False,
    limit: int | None = None,
    progress: Progress = silent,
) -> Conversion:
    """Write the structures of some files or folders, in any format that is read, to one file.

    Labels become results of a calculation, in eV and Angstrom. Of ``info`` numbers, texts and arrays of numbers are
    kept. extxyz has 8 decimals of positions and forces, as ASE writes it; aselmdb has all digits. Memory does not grow
    with the number of structures.

    Args:
        sources: files or folders; their structures follow one another.
        output: .extxyz, .xyz or .aselmdb, which must not exist.
        keys: which key holds each label.
        symbols: how names of atoms are taken that are no elements.
        labelled_only: leave out structures without any label.
        limit: look at so many structures only.
        progress: told of each structure.

    Raises:
        StructureError: a source cannot be read, or nothing is left.
        OutputError: the output exists, or has another suffix; Hessian products in .aselmdb.
    """
    paths = [Path(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    output = Path(output)
    writer = _writer(output)
    check_writable(output)
    keys.check(islice(_read(paths, symbols), limit))
    sieve = _Sieve(keys, labelled_only, progress)
    with replacing(output, new=True) as temporary, writer(temporary) as write:
        kept = sieve.kept(islice(_read(paths, symbols), limit))
        while batch := list(islice(kept, _BATCH)):
            write(batch)
        if not sieve.counts.structures:
            raise StructureError(f"No structure is left to write: {'; '.join(sieve.examples.values())}")
    return Conversion(output, sieve.counts, sieve.skipped, sieve.examples)


def _read(paths: Sequence[Path], symbols: Symbols) -> Iterator[Atoms]:
    return chain.from_iterable(read_structures(path, symbols) for path in paths)


class _Sieve:
    """Structures that pass, and a record of those that do not."""

    def __init__(self, keys: LabelKeys, labelled_only: bool, progress: Progress) -> None:
        self._keys, self._labelled_only, self._progress = keys, labelled_only, progress
        self.counts = LabelCounts()
        self.skipped: dict[str, int] = {}
        self.examples: dict[str, str] = {}

    def kept(self, structures: Iterator[Atoms]) -> Iterator[Atoms]:
        for number, atoms in enumerate(map(self._keys.on, structures)):
            self._progress(1)
            if (made := self._passed(Origin(number), atoms)) is not None:
                yield made

    def _passed(self, place: Origin, atoms: Atoms) -> Atoms | None:
        try:
            list(checked([atoms], _ALL))
        except StructureError as error:
            self._leave_out("no model can evaluate them", str(error).replace(str(Origin(0)), str(place), 1))
            return None
        try:
            labels = labels_of(atoms, place)
        except StructureError as error:
            self._leave_out("a label is not finite or has another shape", str(error))
            return None
        found = label_sources(atoms, labels)
        if self._labelled_only and not found:
            self._leave_out("they have no label", f"{place.of(atoms)} has no label.")
            return None
        self.counts += LabelCounts.of([found])
        return plain(atoms, labels)

    def _leave_out(self, reason: str, example: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        self.examples.setdefault(reason, example)


def plain(atoms: Atoms, labels: Labels) -> Atoms:
    """A copy whose labels are results of a calculation and nothing else, and whose info every format can hold."""
    copy = atoms.copy()
    for quantity in QUANTITIES:
        copy.arrays.pop(f"REF_{quantity}", None)
    ours = {SOURCES, *(f"REF_{quantity}" for quantity in QUANTITIES)}
    copy.info = {str(key): value for key, value in atoms.info.items() if key not in ours and _is_plain(value)}
    results = {"energy": labels.energy, "forces": labels.forces, "energies": labels.atom_energies}
    if labels.stress is not None and atoms.cell.rank == 3:
        results["stress"] = labels.stress
    copy.calc = SinglePointCalculator(copy, **{name: value for name, value in results.items() if value is not None})
    return copy


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int | float | np.number) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    )


class _Write(Protocol):
    def __call__(self, batch: Sequence[Atoms]) -> None: ...


@contextmanager
def _extxyz(path: Path) -> Iterator[_Write]:
    from ase.io import write  # slow to import

    with path.open("w", encoding="utf-8") as stream:
        yield lambda batch: write(stream, batch, format="extxyz")


@contextmanager
def _aselmdb(path: Path) -> Iterator[_Write]:
    try:
        import ase_db_backends.aselmdb  # noqa: F401
    except ImportError as error:
        raise OutputError(f"'{path.name}' needs ase-db-backends: pip install 'equiprune[lmdb]'") from error
    import ase.db  # slow to import

    def put(batch: Sequence[Atoms]) -> None:
        with ase.db.connect(path, use_lock_file=False) as database:  # each batch is a transaction
            for atoms in batch:
                if lost := sorted(atoms.arrays.keys() - _KEPT_BY_ASE):
                    raise OutputError(f"An ASE database has no place for {', '.join(lost)}. Write .extxyz instead.")
                database.write(atoms, data=atoms.info)

    yield put


_WRITERS = {".extxyz": _extxyz, ".xyz": _extxyz, ".aselmdb": _aselmdb}


def _writer(output: Path) -> Any:
    if output.suffix not in _WRITERS:
        raise OutputError(f"Structures are written as {', '.join(_WRITERS)}, not '{output.suffix}' ('{output}').")
    return _WRITERS[output.suffix]
