"""Samples of labels and predictions, for pictures of one against the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

import numpy as np

_ATOMS = 4
"""Atoms of a structure whose forces are sampled."""

Pairs = Mapping[str, Sequence[tuple[float, float]]]
"""Pairs of label and prediction by quantity: ``energy`` in eV/atom, components of ``forces`` in eV/Angstrom."""


@dataclass(frozen=True)
class ParitySample:
    """Pairs of a fixed number of structures, drawn by their numbers in the file.

    Which structures are drawn depends on nothing but their numbers: not on batches, order or processes. Two samples of
    parts are together the sample of the whole.

    Attributes:
        size: most structures.
        drawn: pairs by structure.

    >>> few = ParitySample(1, {7: {"energy": [(1.0, 1.1)]}}) + ParitySample(1, {8: {"energy": [(2.0, 2.2)]}})
    >>> few.pairs()
    {'energy': [(2.0, 2.2)]}
    """

    size: int
    drawn: Mapping[int, Pairs]

    @classmethod
    def of(
        cls, size: int, number: int, labels: Mapping[str, np.ndarray], errors: Mapping[str, np.ndarray]
    ) -> ParitySample:
        """The sample of one structure.

        Args:
            size: most structures.
            number: of the structure, in the file.
            labels: ``energy`` (1,), eV/atom, and ``forces`` (atoms, 3), eV/Angstrom, as far as there are any.
            errors: predictions minus labels, in the same shapes.
        """
        pairs = {name: _pairs(labels[name], errors[name]) for name in labels.keys() & errors.keys()}
        return cls(size, {number: pairs} if size else {})

    def __add__(self, other: ParitySample) -> ParitySample:
        every = {**self.drawn, **other.drawn}
        kept = nsmallest(self.size, every, key=_turn) if len(every) > self.size else every
        return ParitySample(self.size, {number: every[number] for number in kept})

    def pairs(self) -> dict[str, list[tuple[float, float]]]:
        """All pairs by quantity, in the order of the structures; a quantity without any is left out."""
        names = dict.fromkeys(name for _, pairs in sorted(self.drawn.items()) for name in sorted(pairs))
        return {name: [pair for _, of in sorted(self.drawn.items()) for pair in of.get(name, ())] for name in names}

    def to_record(self) -> dict[str, Any]:
        """Everything as JSON; `from_record` reads it."""
        return {"size": self.size, "drawn": [[number, pairs] for number, pairs in sorted(self.drawn.items())]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ParitySample:
        """The sample that `to_record` wrote."""
        drawn = {
            number: {name: [(label, predicted) for label, predicted in some] for name, some in pairs.items()}
            for number, pairs in record["drawn"]
        }
        return cls(record["size"], drawn)


def _pairs(labels: np.ndarray, errors: np.ndarray) -> list[tuple[float, float]]:
    """Label and prediction of every component of a few rows, spread evenly."""
    rows = np.unique(np.linspace(0, len(labels) - 1, _ATOMS).round().astype(int))
    few = labels[rows].ravel()
    return list(zip(few.tolist(), (few + errors[rows].ravel()).tolist(), strict=True))


def _turn(number: int) -> tuple[bytes, int]:
    """The turn of a structure when structures are drawn: as good as random, and always the same."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=8).digest(), number
