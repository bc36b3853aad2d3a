"""Hessian distillation: products of a teacher's Hessian as labels, and which of them a step of training sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.hessian import Probes, hessian_products, side_by_side
from equiprune.labels import HessianProducts, Labels
from equiprune.potential import Potential, located_batches
from equiprune.structure_files import Origin


def with_products(
    teacher: Potential,
    structures: Iterable[Atoms],
    probes: Probes,
    *,
    batch_atoms: int = 256,
    first: int = 0,
    origins: Iterable[Origin] | None = None,
) -> Iterator[Atoms]:
    """The structures, with the labels they have, and products of the teacher's Hessian (eV/Angstrom^2).

    Computed in the teacher's precision. What is drawn for a structure depends on nothing but the probes, its size and
    its place among the others, counted from ``first``. ``origins`` are what errors say of where a structure is from;
    unless given, that place.

    Raises:
        StructureError: unknown elements, or a product that is not finite.
    """
    done, origins = first, map(Origin, count(first)) if origins is None else origins
    for places, batch in located_batches(structures, batch_atoms, origins):
        vectors = [probes.draw(len(atoms), done + i) for i, atoms in enumerate(batch)]
        found = hessian_products(teacher, batch, vectors, batch_atoms, places)
        for atoms, place, its, product in zip(batch, places, vectors, found, strict=True):
            if not np.isfinite(product).all():
                raise StructureError(f"{place.of(atoms)}: the teacher's Hessian is not finite.")
            yield HessianProducts(its, product).on(atoms)
        done += len(batch)


@dataclass(frozen=True)
class Turn:
    """Which of the vectors stored for a structure take part in an epoch: all in turn, in an order of their own.

    It depends on nothing else, so a resumed run, and one on more processes, takes the same ones.

    Attributes:
        samples: vectors per epoch, or all where there are fewer.
        seed: of the order.
        structure: its index in the data.
        epoch: from 0.

    >>> [Turn(2, seed=0, structure=5, epoch=epoch).of(4).tolist() for epoch in range(3)]
    [[3, 0], [1, 2], [3, 0]]
    """

    samples: int
    seed: int
    structure: int
    epoch: int = 0

    def of(self, stored: int) -> np.ndarray:
        """Indices of vectors, of so many that are stored."""
        order = np.random.default_rng([self.seed, self.structure]).permutation(stored)
        start = self.epoch * self.samples
        return order[np.arange(start, start + min(self.samples, stored)) % max(stored, 1)]


@dataclass(frozen=True)
class Turns:
    """The `Turn` of every structure in an epoch; attributes as there."""

    samples: int
    seed: int
    epoch: int = 0

    def of(self, structures: Iterable[int]) -> list[Turn]:
        """Those of these structures, by their indices."""
        return [Turn(self.samples, self.seed, structure, self.epoch) for structure in structures]


def stacked(
    labels: Sequence[Labels], structures: Sequence[Atoms], turns: Sequence[Turn]
) -> tuple[np.ndarray, np.ndarray]:
    """Products and vectors of a batch, both (vectors, atoms, 3): NaN and zero where a structure has fewer than others.

    Without ``turns`` there are no vectors.
    """
    if not turns:
        nothing = np.empty((0, sum(map(len, structures)), 3))
        return nothing, nothing
    found = [_taken(label, atoms, turn) for label, atoms, turn in zip(labels, structures, turns, strict=True)]
    return side_by_side([x.products for x in found], np.nan), side_by_side([x.vectors for x in found])


def _taken(label: Labels, atoms: Atoms, turn: Turn) -> HessianProducts:
    """Those whose turn it is."""
    if label.hessian is None:
        nothing = np.empty((0, len(atoms), 3))
        return HessianProducts(nothing, nothing)
    chosen = turn.of(len(label.hessian.vectors))
    return HessianProducts(label.hessian.vectors[chosen], label.hessian.products[chosen])
