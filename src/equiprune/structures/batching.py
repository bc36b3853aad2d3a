"""Structures grouped to be evaluated at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import count, islice
from typing import TypeVar

from ase import Atoms

from equiprune.structures.sequences import Origin, origin

S = TypeVar("S", bound=Sized)


def batches(structures: Iterable[S], batch_atoms: int) -> Iterator[list[S]]:
    """Consecutive structures, or what is as long, grouped until ``batch_atoms`` atoms; a larger one is alone."""
    batch: list[S] = []
    atoms_in_batch = 0
    for atoms in structures:
        if batch and atoms_in_batch + len(atoms) > batch_atoms:
            yield batch
            batch, atoms_in_batch = [], 0
        batch.append(atoms)
        atoms_in_batch += len(atoms)
    if batch:
        yield batch


def batch_ranges(sizes: Iterable[int], batch_atoms: int) -> list[range]:
    """The same batches as `batches` makes, from sizes alone: the numbers of the structures of each.

    >>> batch_ranges([3, 4, 9, 1, 1], 8)
    [range(0, 2), range(2, 3), range(3, 5)]
    """
    found: list[range] = []
    for batch in batches(map(range, sizes), batch_atoms):
        begin = found[-1].stop if found else 0
        found.append(range(begin, begin + len(batch)))
    return found


def located_batches(
    structures: Iterable[Atoms], batch_atoms: int, origins: Iterable[Origin] | None = None
) -> Iterator[tuple[list[Origin], list[Atoms]]]:
    """`batches`, each with where its structures are from: ``origins``, or else their places in ``structures``."""
    places = iter((origin(structures, i) for i in count()) if origins is None else origins)
    for batch in batches(structures, batch_atoms):
        yield list(islice(places, len(batch))), batch
