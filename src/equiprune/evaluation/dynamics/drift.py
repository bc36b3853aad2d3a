"""Drift: whether the energy that dynamics must conserve is conserved."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from equiprune.evaluation.dynamics.statistics import Estimate, slope

LIMIT = 0.1
"""Largest drift that passes unless another is given, meV/atom/ps."""


class Verdict(Enum):
    """Outcome of a check."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Drift:
    """Slope of the conserved energy, and how far it may go.

    Attributes:
        slope: of a line through the conserved energy, meV/atom/ps.
        rms: root mean square about that line, meV/atom.
        limit: largest slope that passes, meV/atom/ps.

    >>> [Drift(Estimate(value, 0.02), 0.0, 0.1).verdict.value for value in (0.05, 0.09, -0.15)]
    ['passed', 'undecided', 'failed']
    """

    slope: Estimate
    rms: float
    limit: float = LIMIT

    @classmethod
    def of(cls, times: np.ndarray, energies: np.ndarray, limit: float = LIMIT) -> Drift:
        """From the conserved energies per atom (steps,), eV, at times (steps,), ps."""
        fitted = slope(times, energies)
        away = energies - energies.mean() - fitted.value * (times - times.mean())
        return cls(fitted.times(1e3), 1e3 * float(np.sqrt((away**2).mean())), limit)

    @property
    def verdict(self) -> Verdict:
        """Passed if the slope and its error together are below the limit, failed if the slope less its error is above.

        Undecided where the limit lies within the error bar, or where the series was too short for one.
        """
        size, error = abs(self.slope.value), self.slope.error
        if size + error < self.limit:
            return Verdict.PASSED
        return Verdict.FAILED if size - error > self.limit else Verdict.UNDECIDED

    def to_json(self) -> dict[str, Any]:
        """Numbers in meV/atom/ps and meV/atom, and the verdict."""
        return {
            "slope": self.slope.value,
            "error": self.slope.error,
            "rms": self.rms,
            "limit": self.limit,
            "verdict": self.verdict.value,
        }
