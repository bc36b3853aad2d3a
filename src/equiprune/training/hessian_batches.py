"""Hessian distillation: which of a structure's labelled Hessian products a step of training sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from equiprune.potentials.hessian import pad_and_concatenate
from equiprune.structures.labels import HessianProducts, Labels


@dataclass(frozen=True)
class ProbeSubset:
    """The stored vectors of a structure that take part in an epoch: all in turn, in an order of their own.

    It depends on nothing else, so a resumed run, and one on more processes, takes the same ones.

    Attributes:
        samples: vectors per epoch, or all where there are fewer.
        seed: of the order.
        structure: its index in the data.
        epoch: from 0.

    >>> [ProbeSubset(2, seed=0, structure=5, epoch=epoch).of(4).tolist() for epoch in range(3)]
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
class ProbeSchedule:
    """The `ProbeSubset` of every structure in an epoch; attributes as there."""

    samples: int
    seed: int
    epoch: int = 0

    def of(self, structures: Iterable[int]) -> list[ProbeSubset]:
        """Those of these structures, by their indices."""
        return [ProbeSubset(self.samples, self.seed, structure, self.epoch) for structure in structures]


def stacked(
    labels: Sequence[Labels], structures: Sequence[Atoms], probes: Sequence[ProbeSubset]
) -> tuple[np.ndarray, np.ndarray]:
    """Products and vectors of a batch, both (vectors, atoms, 3): NaN and zero where a structure has fewer than others.

    Without ``probes`` there are no vectors.
    """
    if not probes:
        nothing = np.empty((0, sum(map(len, structures)), 3))
        return nothing, nothing
    found = [_taken(label, atoms, probe) for label, atoms, probe in zip(labels, structures, probes, strict=True)]
    return pad_and_concatenate([x.products for x in found], np.nan), pad_and_concatenate([x.vectors for x in found])


def _taken(label: Labels, atoms: Atoms, probe: ProbeSubset) -> HessianProducts:
    """Those whose turn it is."""
    if label.hessian is None:
        nothing = np.empty((0, len(atoms), 3))
        return HessianProducts(nothing, nothing)
    chosen = probe.of(len(label.hessian.vectors))
    return HessianProducts(label.hessian.vectors[chosen], label.hessian.products[chosen])
