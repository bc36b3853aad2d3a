"""Structures grouped to be evaluated at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, islice

from ase import Atoms

from equiprune.structures.sequences import Origin, origin


def batches(structures: Iterable[Atoms], batch_atoms: int) -> Iterator[list[Atoms]]:
    """Consecutive structures, grouped until ``batch_atoms`` atoms; a larger structure is a batch of its own."""
    batch: list[Atoms] = []
    atoms_in_batch = 0
    for atoms in structures:
        if batch and atoms_in_batch + len(atoms) > batch_atoms:
            yield batch
            batch, atoms_in_batch = [], 0
        batch.append(atoms)
        atoms_in_batch += len(atoms)
    if batch:
        yield batch


def located_batches(
    structures: Iterable[Atoms], batch_atoms: int, origins: Iterable[Origin] | None = None
) -> Iterator[tuple[list[Origin], list[Atoms]]]:
    """`batches`, each with where its structures are from: ``origins``, or else their places in ``structures``."""
    places = iter((origin(structures, i) for i in count()) if origins is None else origins)
    for batch in batches(structures, batch_atoms):
        yield list(islice(places, len(batch))), batch
