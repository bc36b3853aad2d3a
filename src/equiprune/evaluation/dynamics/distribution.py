"""Radial distribution functions: how many atoms of one element lie how far from those of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from equiprune.errors import TargetError
from equiprune.evaluation.dynamics.statistics import block_means

Pair = tuple[str, str]
"""Two chemical symbols."""

WIDTH = 0.05
"""Angstrom, of a bin."""
_FARTHEST = 8.0
"""Angstrom that are looked at unless less is possible or something else is asked for."""
_BLOCKS = 5


@dataclass(frozen=True, eq=False)
class Distribution:
    """The radial distribution function of a pair of elements.

    Attributes:
        pair: the elements.
        radii: (bins,), Angstrom, in the middle of each bin.
        values: (bins,), 1 where atoms do not know of each other.
        errors: (bins,), standard errors from blocks of frames; NaN with fewer frames than blocks.
    """

    pair: Pair
    radii: np.ndarray
    values: np.ndarray
    errors: np.ndarray

    @property
    def name(self) -> str:
        """The pair in words, such as ``H-O``."""
        return "-".join(self.pair)

    @property
    def peak(self) -> tuple[float, float, float]:
        """Position, Angstrom, of the highest value, that value and its error; the position is that of a parabola.

        NaN where there was no such pair within reach.
        """
        top = int(self.values.argmax())
        if not self.values[top]:
            return math.nan, 0.0, math.nan
        position = self.radii[top]
        if 0 < top < len(self.values) - 1:
            left, middle, right = self.values[top - 1 : top + 2]
            position += (self.radii[1] - self.radii[0]) * (right - left) / (2 * (2 * middle - left - right) or np.inf)
        return float(position), float(self.values[top]), float(self.errors[top])

    def difference(self, other: Distribution) -> tuple[float, float]:
        """Mean absolute difference from another model's, and what their errors alone would make of it."""
        noise = np.sqrt(2 / np.pi * (self.errors**2 + other.errors**2))
        return float(np.abs(self.values - other.values).mean()), float(noise.mean())

    def to_json(self) -> dict[str, Any]:
        """``pair``, ``peak`` (``position`` in Angstrom, ``height``, ``error``), ``radii``, ``values``, ``errors``."""
        position, height, error = self.peak
        curve = {name: getattr(self, name).round(6).tolist() for name in ("radii", "values", "errors")}
        return {"pair": list(self.pair), "peak": {"position": position, "height": height, "error": error}, **curve}


def farthest(atoms: Atoms, asked: float | None = None) -> float | None:
    """The distance, Angstrom, up to which atoms are counted; None where the structure is not periodic everywhere.

    At most half of the shortest height of the cell: beyond it, an atom and its own image would be counted as two.

    >>> f"{farthest(Atoms(cell=[10, 20, 20], pbc=True)):.1f}"
    '5.0'

    Raises:
        TargetError: more was asked for than is possible.
    """
    if not atoms.pbc.all():
        return None
    heights = atoms.cell.volume / np.linalg.norm(np.cross(atoms.cell[[1, 2, 0]], atoms.cell[[2, 0, 1]]), axis=1)
    most = float(heights.min() / 2)
    if asked is None:
        return min(most, _FARTHEST)
    if not 0 < asked <= most:
        raise TargetError(
            f"`reach` {asked:g} Angstrom is not possible: give at most half of the shortest height of the cell, "
            f"{most:.2f} Angstrom, or a larger structure (`repeat`)."
        )
    return asked


def pairs_of(atoms: Atoms, text: str | None = None) -> tuple[Pair, ...]:
    """Pairs of elements: those that are named, such as ``O-O,O-H``, or all that the structure has.

    >>> pairs_of(Atoms("H2O"))
    (('H', 'H'), ('H', 'O'), ('O', 'O'))

    Raises:
        TargetError: one is not of two elements of the structure.
    """
    symbols = sorted(set(atoms.get_chemical_symbols()))
    if text is None:
        return tuple(combinations_with_replacement(symbols, 2))
    pairs = [tuple(sorted(part.strip().split("-"))) for part in text.split(",")]
    for pair in pairs:
        if len(pair) != 2 or not set(pair) <= set(symbols):
            raise TargetError(
                f"`pairs` '{text}' is not possible: give pairs of {', '.join(symbols)}, such as "
                f"{symbols[0]}-{symbols[-1]}, with commas between them."
            )
    return tuple((first, second) for first, second in dict.fromkeys(pairs))


def distributions(frames: Sequence[Atoms], pairs: Sequence[Pair], reach: float) -> list[Distribution]:
    """Radial distribution functions up to a distance, Angstrom, averaged over frames that are periodic everywhere.

    Counts of neighbours over those in an ideal gas of the same density, as ASE's ``get_rdf`` normalises them.
    """
    bins = max(1, round(reach / WIDTH))
    edges = np.linspace(0, reach, bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    found = np.array([_counts(frame, pairs, edges) for frame in frames])
    ideal = np.array([[_density(frame, pair) for pair in pairs] for frame in frames])
    values = found / (ideal[:, :, None] * shells)
    blocks = block_means(values, _BLOCKS)
    errors = blocks.std(axis=0, ddof=1) / np.sqrt(_BLOCKS) if len(blocks) else np.full(values.shape[1:], np.nan)
    middle, means = (edges[1:] + edges[:-1]) / 2, values.mean(axis=0)
    return [Distribution(pair, middle, means[i], errors[i]) for i, pair in enumerate(pairs)]


def _density(frame: Atoms, pair: Pair) -> float:
    """Pairs per Angstrom^3 about each other in an ideal gas."""
    first, second = (int((frame.numbers == atomic_numbers[symbol]).sum()) for symbol in pair)
    return first * second / frame.cell.volume


def _counts(frame: Atoms, pairs: Sequence[Pair], edges: np.ndarray) -> np.ndarray:
    """Neighbours (pairs, bins) that atoms of the first element have among those of the second."""
    import vesin  # slow to import, and only needed here

    finder = vesin.NeighborList(cutoff=float(edges[-1]), full_list=True, n_threads=1)
    first, second, distances = finder.compute(
        points=frame.positions, box=frame.cell.array, periodic=True, quantities="ijd"
    )
    of, among = frame.numbers[first], frame.numbers[second]
    chosen = ((of == atomic_numbers[a]) & (among == atomic_numbers[b]) for a, b in pairs)
    return np.array([np.histogram(distances[some], edges)[0] for some in chosen])
