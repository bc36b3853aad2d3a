"""Results of the discovery task: predictions of models, their metrics, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from equiprune.evaluation.discovery.materials import Material
from equiprune.evaluation.discovery.metrics import StabilityMetrics, stability_metrics
from equiprune.evaluation.discovery.relaxation import Outcome

MOST_STABLE = 10_000
"""Materials of the subset of those that a model calls most stable."""

LARGEST_ERROR = 5.0
"""eV/atom: a formation energy that is farther off is no prediction (matbench_discovery/preds.py)."""

FULL, UNIQUE, STABLEST = "full_test_set", "unique_prototypes", "most_stable_10k"
"""Subsets, as the leaderboard calls them."""

_MILLI = 1000.0
_ERRORS = ("MAE, meV/atom", "RMSE, meV/atom")


@dataclass(frozen=True)
class Prediction:
    """The end of one material, by one model.

    Attributes:
        outcome: of the relaxation.
        steps: of the optimiser.
        energy: eV, of the relaxed cell without corrections; None where there is none.
        formation_energy: eV/atom, with corrections; None where there is none, or where it is unrealistic.
        rmsd: distance from DFT's structure, in units of (volume per atom)^(1/3); None where it was not measured.
    """

    outcome: Outcome
    steps: int
    energy: float | None = None
    formation_energy: float | None = None
    rmsd: float | None = None


@dataclass(frozen=True)
class ModelPredictions:
    """Predictions of one model.

    Attributes:
        model: as it was named.
        predictions: by material, of all whose elements the model knows.
    """

    model: str
    predictions: Mapping[str, Prediction]

    @property
    def finished(self) -> frozenset[str]:
        """Names of the materials with a formation energy."""
        return frozenset(name for name, found in self.predictions.items() if found.formation_energy is not None)

    @property
    def unrealistic(self) -> int:
        """Relaxed materials whose formation energy is farther off than `LARGEST_ERROR`."""
        return sum(each.energy is not None and each.formation_energy is None for each in self.predictions.values())

    @property
    def outcomes(self) -> dict[str, int]:
        """Relaxations by outcome; all are named."""
        found = Counter(each.outcome for each in self.predictions.values())
        return {outcome.value: found[outcome] for outcome in Outcome}

    def rmsd(self, names: Iterable[str]) -> float | None:
        """Mean distance from DFT's structures, in units of (volume per atom)^(1/3); None where it was not measured."""
        found = [rmsd for name in names if (rmsd := self.predictions[name].rmsd) is not None]
        return float(np.mean(found)) if found else None

    def formation_energies(self, materials: Sequence[Material]) -> np.ndarray:
        """eV/atom, shape (materials,); NaN without a prediction."""
        found = (self.predictions.get(material.name) for material in materials)
        return np.array([np.nan if each is None else _or_nan(each.formation_energy) for each in found])


@dataclass(frozen=True)
class DiscoveryResult:
    """Predictions of several models for the same materials.

    Attributes:
        materials: that were asked for.
        models: what each predicts.
        available: number of materials that the sample was drawn from.
    """

    materials: tuple[Material, ...]
    models: tuple[ModelPredictions, ...]
    available: int = field(default=0)

    @cached_property
    def shared(self) -> tuple[Material, ...]:
        """Materials that all models finished."""
        finished = frozenset.intersection(*(model.finished for model in self.models))
        return tuple(material for material in self.materials if material.name in finished)

    @property
    def has_hull(self) -> bool:
        """True if energies above the convex hull are known; else stable is what forms from its elements."""
        return all(material.above_hull is not None for material in self.materials)

    @property
    def subsets(self) -> tuple[str, ...]:
        """Subsets that can be told of the materials that all models finished."""
        return tuple(self.metrics(self.models[0], self.shared))

    def metrics(self, model: ModelPredictions, materials: Sequence[Material]) -> dict[str, StabilityMetrics]:
        """Metrics of a model by subset, of those that can be told.

        The predicted energy above the hull is the true one plus the error of the formation energy, since the hull is
        that of DFT (matbench_discovery/metrics).
        """
        formation = np.array([material.formation_energy for material in materials])
        true = np.array([_or_nan(each.above_hull) for each in materials]) if self.has_hull else formation
        predicted = true + (model.formation_energies(materials) - formation)
        found = {FULL: stability_metrics(true, predicted)} if len(materials) else {}
        unique = np.array([bool(material.unique_prototype) for material in materials])
        if unique.any() and all(material.unique_prototype is not None for material in materials):
            found[UNIQUE] = stability_metrics(true[unique], predicted[unique])
            if unique.sum() > MOST_STABLE:
                best = np.argsort(predicted[unique], kind="stable")[:MOST_STABLE]
                chance = found[UNIQUE].found_by_chance
                found[STABLEST] = stability_metrics(true[unique][best], predicted[unique][best], found_by_chance=chance)
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions themselves: energies in eV/atom, as the leaderboard has them."""
        return {
            "materials": len(self.materials),
            "available": self.available,
            "stable_against": "the convex hull" if self.has_hull else "the elements",
            "shared": len(self.shared),
            "models": [self._of(model) for model in self.models],
        }

    def _of(self, model: ModelPredictions) -> dict[str, Any]:
        names = [material.name for material in self.shared]
        shared, alone = (self.metrics(model, materials) for materials in (self.shared, self.materials))
        return {
            "model": model.model,
            "unknown_elements": len(self.materials) - len(model.predictions),
            "outcomes": model.outcomes,
            "unrealistic": model.unrealistic,
            "missing": len(self.materials) - len(model.finished),
            "on_shared": {name: found.to_json() for name, found in shared.items()},
            "on_all": {name: found.to_json() for name, found in alone.items()},
            "rmsd": model.rmsd(names),
        }


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def metrics_table(result: DiscoveryResult, subset: str) -> list[list[str]]:
    """Rows for display: models side by side on the materials of a subset that all of them finished."""
    rows = [["model", "F1", "DAF", "precision", "recall", "accuracy", *_ERRORS, "R2", "RMSD"]]
    names = [material.name for material in result.shared]
    for model in result.models:
        found = result.metrics(model, result.shared)[subset]
        shares = (found.f1, found.daf, found.precision, found.tpr, found.accuracy)
        errors = (found.mae, found.rmse)
        rmsd = model.rmsd(names) if subset == FULL else None
        rows.append(
            [
                model.model,
                *(_shown(value) for value in shares),
                *("-" if value is None else f"{value * _MILLI:.1f}" for value in errors),
                *(_shown(value) for value in (found.r2, rmsd)),
            ]
        )
    return rows


def outcomes_table(result: DiscoveryResult) -> list[list[str]]:
    """Rows for display: how the relaxations of each model ended, and what was left out."""
    heads = [outcome.value.replace("_", " ") for outcome in Outcome]
    rows = [["model", *heads, "unrealistic", "unknown elements", "mean steps"]]
    for model in result.models:
        steps = [each.steps for each in model.predictions.values()]
        counts = (*model.outcomes.values(), model.unrealistic, len(result.materials) - len(model.predictions))
        rows.append([model.model, *map(str, counts), f"{np.mean(steps):.0f}" if steps else "-"])
    return rows


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
