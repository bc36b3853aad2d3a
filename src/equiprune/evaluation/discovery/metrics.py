"""Metrics of the discovery task: does a model find the stable materials among all?

Stable is a material whose energy above the convex hull, in eV/atom, is at most a threshold, zero unless given. Names
and definitions are those of Matbench Discovery (arXiv:2308.14920; `stable_metrics` and `classify_stable` of
matbench-discovery, matbench_discovery/metrics). A material without a prediction counts as one that the model calls
unstable, and is left out of the errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

UNITS: Mapping[str, str] = {"MAE": "eV/atom", "RMSE": "eV/atom"}
"""Units of the metrics that have one; the others are counts, and shares between 0 and 1."""


@dataclass(frozen=True)
class StabilityMetrics:
    """Counts of right and wrong calls, and errors of the energy above the hull.

    Attributes:
        tp: stable materials that are called stable.
        fp: unstable materials that are called stable.
        tn: unstable materials that are called unstable.
        fn: stable materials that are called unstable.
        missing: materials without a prediction, which are among the latter two.
        mae: mean absolute error, eV/atom; None without predictions, as the other two.
        rmse: root mean squared error, eV/atom.
        r2: coefficient of determination; also None where all true values are the same.
        found_by_chance: share of stable materials that the discovery acceleration factor compares with.
    """

    tp: int
    fp: int
    tn: int
    fn: int
    missing: int
    mae: float | None
    rmse: float | None
    r2: float | None
    found_by_chance: float | None

    @property
    def precision(self) -> float | None:
        """Share of stable materials among those that are called stable."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def tpr(self) -> float | None:
        """True positive rate, also called recall: share of the stable materials that is found."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def fnr(self) -> float | None:
        """False negative rate: share of the stable materials that is missed."""
        return _share(self.fn, self.tp + self.fn)

    @property
    def fpr(self) -> float | None:
        """False positive rate: share of the unstable materials that is called stable."""
        return _share(self.fp, self.fp + self.tn)

    @property
    def tnr(self) -> float | None:
        """True negative rate: share of the unstable materials that is called unstable."""
        return _share(self.tn, self.fp + self.tn)

    @property
    def accuracy(self) -> float | None:
        """Share of right calls."""
        return _share(self.tp + self.tn, self.tp + self.fp + self.tn + self.fn)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None where no stable material is found."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn) if self.tp else None

    @property
    def daf(self) -> float | None:
        """Discovery acceleration factor: precision over what picking at random would give."""
        if self.precision is None or not self.found_by_chance:
            return None
        return self.precision / self.found_by_chance

    def to_json(self) -> dict[str, Any]:
        """The metrics under their public names; MAE and RMSE in eV/atom, None where one is undefined."""
        return {
            **{"F1": self.f1, "DAF": self.daf, "Precision": self.precision, "Recall": self.tpr},
            **{"Accuracy": self.accuracy, "TPR": self.tpr, "FPR": self.fpr, "TNR": self.tnr, "FNR": self.fnr},
            **{"TP": self.tp, "FP": self.fp, "TN": self.tn, "FN": self.fn},
            **{"MAE": self.mae, "RMSE": self.rmse, "R2": self.r2, "missing_preds": self.missing},
        }


@dataclass(frozen=True)
class Calls:
    """Right and wrong calls of a model, material by material; boolean, shape (materials,)."""

    tp: np.ndarray
    fp: np.ndarray
    tn: np.ndarray
    fn: np.ndarray


def classified(true: np.ndarray, predicted: np.ndarray, threshold: float = 0.0) -> Calls:
    """Calls of a model.

    Args:
        true: energies above the hull, eV/atom, shape (materials,).
        predicted: the same of the model; NaN where there is no prediction, which is a call of unstable.
        threshold: eV/atom, up to which a material is stable.

    >>> calls = classified(np.array([-0.1, -0.1, 0.2, 0.0]), np.array([0.0, np.nan, 0.1, 0.1]))
    >>> calls.tp.tolist(), calls.fn.tolist()
    ([True, False, False, False], [False, True, False, True])
    """
    stable, called = np.asarray(true) <= threshold, np.asarray(predicted) <= threshold
    return Calls(stable & called, ~stable & called, ~stable & ~called, stable & ~called)


def stability_metrics(
    true: Sequence[float] | np.ndarray,
    predicted: Sequence[float] | np.ndarray,
    *,
    threshold: float = 0.0,
    found_by_chance: float | None = None,
) -> StabilityMetrics:
    """Metrics of a model on some materials.

    Args:
        true: energies above the hull, eV/atom, shape (materials,), all finite.
        predicted: the same of the model; NaN where there is no prediction.
        threshold: eV/atom, up to which a material is stable.
        found_by_chance: share of stable materials that picking at random gives; that among these unless given.

    Raises:
        ValueError: different numbers of both, none at all, or a true value that is not finite.

    >>> found = stability_metrics([-0.1, -0.2, 0.1, 0.3], [-0.1, 0.1, -0.1, 0.3])
    >>> found.precision, found.tpr, found.f1, found.daf, round(found.mae, 3)
    (0.5, 0.5, 0.5, 1.0, 0.125)
    """
    true, predicted = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
    if true.shape != predicted.shape or true.ndim != 1 or not len(true) or not np.isfinite(true).all():
        raise ValueError(
            f"There are {true.size} true and {predicted.size} predicted energies above the hull. Give as many of both, "
            "one at least, and true ones that are finite."
        )
    calls = classified(true, predicted, threshold)
    counts = {field.name: int(getattr(calls, field.name).sum()) for field in fields(calls)}
    chance = (counts["tp"] + counts["fn"]) / len(true) if found_by_chance is None else found_by_chance
    there = ~np.isnan(predicted)
    mae, rmse, r2 = _errors(true[there], predicted[there])
    missing = int((~there).sum())
    return StabilityMetrics(**counts, missing=missing, mae=mae, rmse=rmse, r2=r2, found_by_chance=chance)


def _errors(true: np.ndarray, predicted: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """MAE, RMSE and R2."""
    if not len(true):
        return None, None, None
    error = predicted - true
    spread = np.square(true - true.mean()).sum() if np.ptp(true) > 0 else None
    r2 = None if spread is None else 1 - float(np.square(error).sum() / spread)
    return float(np.abs(error).mean()), float(np.square(error).mean() ** 0.5), r2


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
