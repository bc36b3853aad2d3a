"""Scaling: time of a model against the number of atoms, and the line through it.

A call costs an overhead ``a`` that does not depend on the structure, and ``b`` for each atom: t = a + b N. The line is
fitted to the median of each size with relative weights, so that the small sizes, which determine a, count as much as
the large ones, which determine b. Where the points do not determine one of them, it is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.evaluation.benchmark import Timing, compared, timed
from equiprune.evaluation.dynamics.statistics import Estimate
from equiprune.evaluation.engines import OWN, EvaluationEngine
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.structures.supercells import supercell

FEWEST_SIZES = 3
"""Sizes that a line with an error bar needs."""
_LARGEST = 3
"""Sizes, the largest ones, that the exponent is of."""
_ERRORS = 2
"""Standard errors by which a number must exceed zero to count as determined."""


@dataclass(frozen=True)
class Scaling:
    """Time of one model by one engine at several sizes, with the line t = a + b N.

    Attributes:
        timings: by size, the smallest first.
        overhead: a, seconds of each call.
        per_atom: b, seconds.
        exponent: of the power of N by which the time grows over the largest three sizes; 1 is linear.
        deviation: of the time from the line, over the line, where it is largest.
    """

    timings: tuple[Timing, ...]
    overhead: Estimate
    per_atom: Estimate
    exponent: Estimate
    deviation: float

    @property
    def name(self) -> str:
        """The model and its engine, as in a table."""
        return f"{self.timings[0].model}, {self.timings[0].engine}"

    @property
    def half_overhead_atoms(self) -> float | None:
        """Atoms, a/b, from which on the overhead is less than half of the time; None where not determined."""
        both = determined(self.overhead) and determined(self.per_atom)
        return self.overhead.value / self.per_atom.value if both else None

    @property
    def most_half_overhead_atoms(self) -> float | None:
        """The most that it can be where the overhead is lost in the noise; None where that is not determined either."""
        most = at_most(self.overhead)
        return most / self.per_atom.value if determined(self.per_atom) and most > 0 else None

    def seconds(self, atoms: float) -> float:
        """The line at a number of atoms."""
        return self.overhead.value + self.per_atom.value * atoms

    def to_json(self) -> dict[str, Any]:
        """Fields as above in ms, with what is determined, the sizes of the exponent, and the timings."""
        first, milli = self.timings[0], 1e3
        return {
            "model": first.model,
            "engine": first.engine,
            "dtype": first.dtype,
            "backend": first.backend,
            "threads": first.threads,
            "overhead_ms": self.overhead.times(milli).to_json(),
            "overhead_determined": determined(self.overhead),
            "ms_per_atom": self.per_atom.times(milli).to_json(),
            "per_atom_determined": determined(self.per_atom),
            "half_overhead_atoms": self.half_overhead_atoms,
            "exponent": self.exponent.to_json(),
            "exponent_atoms": [timing.atoms for timing in self.timings[-_LARGEST:]],
            "largest_deviation": self.deviation,
            "timings": [timing.to_json() for timing in self.timings],
        }


def determined(estimate: Estimate) -> bool:
    """True for a number above zero by more than two standard errors.

    >>> determined(Estimate(3.0, 1.0)), determined(Estimate(3.0, 2.0)), determined(Estimate(-3.0, 1.0))
    (True, False, False)
    """
    return estimate.value > _ERRORS * estimate.error


def at_most(estimate: Estimate) -> float:
    """A number with two standard errors added.

    >>> at_most(Estimate(3.0, 2.0))
    7.0
    """
    return estimate.value + _ERRORS * estimate.error


def scaling(
    potentials: Mapping[str, Potential],
    atoms: Atoms,
    sizes: Sequence[int],
    *,
    repeats: int = 5,
    warmup: int = 2,
    engines: Sequence[EvaluationEngine] = (OWN,),
    progress: Progress = silent,
) -> list[Scaling]:
    """Time every model with every engine on supercells of several sizes, taking turns at each, and fit lines.

    Args:
        potentials: by the names that results have.
        atoms: the structure that is repeated, see `equiprune.structures.supercells.supercell`.
        sizes: numbers of atoms, at least three that differ; the nearest supercells that are not smaller are taken.
        repeats: timed evaluations.
        warmup: evaluations before, whose memory is measured.
        engines: code that evaluates the models, each compared with upstream's own first, on the structure itself.
        progress: called once per evaluation.

    Raises:
        StructureError: the structure cannot be repeated, or fewer than three sizes differ once it is.
        TargetError: an engine cannot evaluate a model, or gives other numbers than upstream's code.
    """
    cells = supercells(atoms, sizes)
    models = compared(potentials, engines, atoms)
    return scaled(models, cells, repeats=repeats, warmup=warmup, progress=progress)


def supercells(atoms: Atoms, sizes: Sequence[int]) -> list[Atoms]:
    """Supercells of about these sizes, the smallest first, each once; raises `StructureError` for fewer than three."""
    cells = {len(cell): cell for cell in (supercell(atoms, size) for size in sorted(sizes))}
    if len(cells) < FEWEST_SIZES:
        found = ", ".join(map(str, cells))
        raise StructureError(
            f"A structure of {len(atoms)} atoms repeated to the sizes {', '.join(map(str, sizes))} has {found} atoms, "
            f"and a line needs at least {FEWEST_SIZES} different numbers. Give sizes that are further apart."
        )
    return list(cells.values())


def scaled(
    potentials: Mapping[tuple[str, str], Potential],
    cells: Sequence[Atoms],
    *,
    repeats: int = 5,
    warmup: int = 2,
    progress: Progress = silent,
) -> list[Scaling]:
    """The same for potentials, by names of model and engine, that were compared before, on structures as they are."""
    by_size = [timed(potentials, cell, repeats=repeats, warmup=warmup, progress=progress) for cell in cells]
    return [fitted(timings) for timings in zip(*by_size, strict=True)]


def fitted(timings: Sequence[Timing]) -> Scaling:
    """The line through timings of one model at three or more sizes, the smallest first.

    Residuals of the line say how uncertain it is, or the scatter of repeated timings where that is larger: three points
    may lie on a line by chance.

    >>> exact = [Timing("m", "float32", "toy", 1, 1, n, (0.01 + 0.002 * n,) * 5, None) for n in (8, 64, 512)]
    >>> found = fitted(exact)
    >>> round(found.overhead.value, 6), round(found.per_atom.value, 6), round(found.half_overhead_atoms, 6)
    (0.01, 0.002, 5.0)
    """
    atoms = np.array([timing.atoms for timing in timings], dtype=np.float64)
    seconds = np.array([timing.median for timing in timings])
    noise = math.sqrt(np.mean([_noise(timing) ** 2 for timing in timings]))
    overhead, per_atom = _fit(np.stack([1 / seconds, atoms / seconds], axis=1), np.ones(len(timings)), noise)
    line = overhead.value + per_atom.value * atoms
    logs = np.log(atoms[-_LARGEST:])
    rows = np.stack([np.ones(len(logs)), logs - logs.mean()], axis=1)
    _, exponent = _fit(rows, np.log(seconds[-_LARGEST:]), noise)
    return Scaling(tuple(timings), overhead, per_atom, exponent, float(np.abs(seconds / line - 1).max()))


def _noise(timing: Timing) -> float:
    """Relative standard error of the median of repeated timings, by the range of their middle half."""
    low, high = np.quantile(timing.seconds, (0.25, 0.75))
    return float(1.25 * (high - low) / 1.35 / timing.median / math.sqrt(len(timing.seconds)))


def _fit(rows: np.ndarray, wanted: np.ndarray, noise: float) -> list[Estimate]:
    """Least squares of ``rows @ numbers = wanted``, whose points scatter by ``noise`` at least."""
    numbers, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
    free = len(wanted) - rows.shape[1]
    variance = max(float(np.square(rows @ numbers - wanted).sum()) / free, noise**2)
    errors = np.sqrt(variance * np.diag(np.linalg.inv(rows.T @ rows)))
    return [Estimate(float(number), float(error)) for number, error in zip(numbers, errors, strict=True)]


def times_table(found: Sequence[Scaling]) -> list[list[str]]:
    """Rows for display: ms of each call by size, and the speed relative to the first model's at that size."""
    rows = [["atoms", *(each.name for each in found)]]
    for timings in zip(*(each.timings for each in found), strict=True):
        first = timings[0].median
        cells = [f"{1e3 * timing.median:.3g} ({first / timing.median:.2f}x)" for timing in timings]
        rows.append([str(timings[0].atoms), *cells])
    return rows


def table(found: Sequence[Scaling]) -> list[list[str]]:
    """Rows for display: the fitted lines."""
    rows = [["model", "engine", "overhead (ms)", "ms/atom", "overhead below half", "exponent", "off the line"]]
    for each in found:
        first = each.timings[0]
        overhead, per_atom = each.overhead.times(1e3), each.per_atom.times(1e3)
        numbers = [_shown(overhead), _shown(per_atom), _half(each), str(each.exponent), f"{100 * each.deviation:.0f} %"]
        rows.append([first.model, first.engine, *numbers])
    return rows


def _shown(estimate: Estimate) -> str:
    if determined(estimate):
        return str(estimate)
    most = at_most(estimate)
    return f"not determined, at most {most:.2g}" if most > 0 else "not determined"


def _half(found: Scaling) -> str:
    if found.half_overhead_atoms is not None:
        return f"from {found.half_overhead_atoms:.0f} atoms"
    most = found.most_half_overhead_atoms
    return "not determined" if most is None else f"from at most {most:.0f} atoms"
