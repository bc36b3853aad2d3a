"""Means and slopes of correlated series, with error bars from averages of blocks.

Successive steps of dynamics are alike, so that their scatter says little about the error of their mean. A block that is
longer than that memory is nearly independent of the next, and the scatter of the blocks' averages is an honest measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BLOCKS = 10
"""Blocks that a series is cut into."""


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error, both in the same unit.

    Attributes:
        value: the number.
        error: one standard deviation; NaN where the series is too short to say.

    >>> print(Estimate(1.23456, 0.012))
    1.235 +- 0.012
    """

    value: float
    error: float = math.nan

    def __str__(self) -> str:
        if not math.isfinite(self.error):
            return f"{self.value:.3g} +- ?"
        digits = 0 if self.error == 0 else max(0, 1 - math.floor(math.log10(self.error)))
        return f"{self.value:.{digits}f} +- {self.error:.{digits}f}"

    def times(self, factor: float) -> Estimate:
        """The same in another unit."""
        return Estimate(self.value * factor, abs(factor) * self.error)

    def to_json(self) -> dict[str, float]:
        """``value`` and ``error``."""
        return {"value": self.value, "error": self.error}


def block_means(series: np.ndarray, blocks: int = BLOCKS) -> np.ndarray:
    """Averages (blocks, ...) of equal consecutive parts of a series (steps, ...); a rest is left out at the beginning.

    >>> block_means(np.arange(7.0), blocks=3)
    array([1.5, 3.5, 5.5])
    """
    length = len(series) // blocks
    if length == 0:
        return series[:0]
    used = series[len(series) - blocks * length :]
    return used.reshape(blocks, length, *series.shape[1:]).mean(axis=1)


def mean(series: np.ndarray, blocks: int = BLOCKS) -> Estimate:
    """The mean of a series (steps,), with the standard error of its blocks.

    >>> mean(np.tile([1.0, 3.0], 20))
    Estimate(value=2.0, error=0.0)
    """
    return Estimate(float(series.mean()), standard_error(block_means(series, blocks)))


def standard_error(values: np.ndarray) -> float:
    """The standard error of the mean of independent values (count,); NaN for fewer than two."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def slope(times: np.ndarray, series: np.ndarray, blocks: int = BLOCKS) -> Estimate:
    """The slope of the line through a series (steps,), fitted by least squares, in its unit over that of ``times``.

    Its error is that of the line through the averages of blocks, whose scatter about it is taken as independent.

    >>> print(slope(np.arange(4.0), np.array([0.0, 3.1, 5.9, 9.0])))
    2.98 +- ?
    """
    if len(series) < 2:
        return Estimate(math.nan)
    fitted, _ = np.polyfit(times - times.mean(), series, 1)
    at, averages = block_means(times, blocks), block_means(series, blocks)
    if len(at) < 3:
        return Estimate(float(fitted))
    line = np.polyfit(at - at.mean(), averages, 1)
    scatter = averages - np.polyval(line, at - at.mean())
    variance = (scatter**2).sum() / (len(at) - 2) / ((at - at.mean()) ** 2).sum()
    return Estimate(float(fitted), math.sqrt(variance))
