"""The recipe: objective and optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cyclopts import Parameter

from equiprune.adapters.base import ModelAdapter
from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, NotNegative, Patterns, Positive
from equiprune.errors import TargetError
from equiprune.structures.labels import QUANTITIES
from equiprune.training.objective import NOT_WEIGHED, FeatureTerm, Objective
from equiprune.training.optimisation import Constant, Cosine, Linear, Plateau, Schedule
from equiprune.training.recipe import PRESETS, Recipe

PresetName = Literal["mace-universal", "mace-weighted", "sevennet", "distil", "escn"]
ScheduleName = Literal["constant", "linear", "cosine", "plateau"]
_SCHEDULES: Mapping[str, Schedule] = {
    "constant": Constant(),
    "linear": Linear(),
    "cosine": Cosine(),
    "plateau": Plateau(0.8, 5),
}


@Parameter(name="*", group=panel("What is minimised"))
@dataclass(frozen=True)
class WeightOptions(Complete):
    """Weights of the objective, instead of the preset's; 0 leaves a quantity out.

    Attributes:
        energy_weight: of the energy per atom.
        forces_weight: of the forces.
        stress_weight: of the stress.
        atom_energies_weight: of each atom's share of the energy, which 'equiprune label' wrote; preset distil has 0.5.
        hessian_weight: of the Hessian products that 'equiprune label' wrote; no preset has one.
        hessian_samples: how many of a structure's products a step compares; each makes it dearer. 1 unless given.
    """

    energy_weight: float | None = None
    forces_weight: float | None = None
    stress_weight: float | None = None
    atom_energies_weight: float | None = None
    hessian_weight: float | None = None
    hessian_samples: Positive | None = None

    def check(self) -> None:
        for quantity, weight in self._given().items():
            if not 0 <= weight < float("inf"):
                raise TargetError(f"`{quantity}_weight` {weight} is not possible: give 0 or a positive number.")
        if self.hessian_samples is not None and not self.hessian_weight:
            raise TargetError("`hessian_samples` counts what `hessian_weight` weighs; give it too.")

    def on(self, objective: Objective, features: FeatureTerm = NOT_WEIGHED) -> Objective:
        """The objective with these weights and features; raises `TargetError` when nothing is left."""
        terms = {quantity: replace(getattr(objective, quantity), weight=w) for quantity, w in self._given().items()}
        if self.hessian_samples is None:
            return replace(objective, features=features, **terms)
        return replace(objective, features=features, **terms, hessian_samples=self.hessian_samples)

    def _given(self) -> dict[str, float]:
        weights = {quantity: getattr(self, f"{quantity}_weight") for quantity in QUANTITIES}
        return {quantity: weight for quantity, weight in weights.items() if weight is not None}


@Parameter(name="*", group=panel("How to train"))
@dataclass(frozen=True)
class RecipeOptions(Complete):
    """A training recipe; what is not given is the preset's.

    Attributes:
        preset: objective and optimisation; those of the model's architecture unless given.
        epochs: passes over the data.
        batch_size: structures per step and process.
        learning_rate: at the start, or after the warm-up.
        schedule: of the learning rate: constant, linear or cosine to 1 % of it, or times 0.8 on a plateau of 5 epochs.
        warm_up: steps over which the learning rate rises from zero.
        weight_decay: of weights that mix channels.
        clip: largest norm of the gradient; 0 for no limit.
        average: decay of the moving average of the weights, which is what is kept; 0 for none.
        rates: factors on the learning rate of parameters by pattern of their names, e.g. "readouts.*=0.1".
        freeze: patterns of parameter names that stay as they are, e.g. "readouts.*".
        patience: stop after more epochs than this without a better validation loss.
    """

    preset: PresetName | None = None
    epochs: Positive = 10
    batch_size: Positive = 4
    learning_rate: float | None = None
    schedule: ScheduleName | None = None
    warm_up: NotNegative | None = None
    weight_decay: float | None = None
    clip: float | None = None
    average: float | None = None
    rates: Patterns | None = None
    freeze: Patterns | None = None
    patience: NotNegative | None = None

    def check(self) -> None:
        self.recipe(WeightOptions(), 0)

    def recipe(
        self,
        weights: WeightOptions,
        seed: int,
        features: FeatureTerm = NOT_WEIGHED,
        suited: str = ModelAdapter.preset,
    ) -> Recipe:
        """The preset, ``suited`` unless one is named, with what is said instead.

        Raises:
            TargetError: values that are not possible, or ``suited`` of an adapter is no preset.
        """
        if (name := self.preset or suited) not in PRESETS:
            raise TargetError(f"The adapter's preset '{name}' is none. Give `preset`: {', '.join(PRESETS)}.")
        chosen = PRESETS[name]
        given: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "schedule": None if self.schedule is None else _SCHEDULES[self.schedule],
            "warm_up": self.warm_up,
            "weight_decay": self.weight_decay,
            "rates": dict.fromkeys(self.freeze or [], 0.0) | dict(map(_rate, self.rates or [])),
        }
        given = {name: value for name, value in given.items() if value is not None}
        given |= {name: getattr(self, name) or None for name in ("clip", "average") if getattr(self, name) is not None}
        optimisation = replace(chosen.optimisation, **given)
        return Recipe(
            weights.on(chosen.objective, features), optimisation, self.epochs, self.batch_size, seed, self.patience
        )


@Parameter(name="*", group=panel("How to train"))
@dataclass(frozen=True)
class LongRecipeOptions(RecipeOptions):
    """A training recipe that has enough steps for what was repaired; what is not given is the preset's.

    Attributes:
        preset: objective and optimisation.
    """

    preset: PresetName = "sevennet"
    epochs: Positive = 20


def _rate(text: str) -> tuple[str, float]:
    """Pattern and factor."""
    pattern, sign, factor = text.rpartition("=")
    try:
        return pattern, float(factor if sign else "")
    except ValueError:
        raise TargetError(f"`rates` '{text}' is no pattern and factor. Give e.g. 'readouts.*=0.1'.") from None


DEFAULT_RECIPE, LONG_RECIPE, NO_WEIGHTS = RecipeOptions(), LongRecipeOptions(), WeightOptions()
"""Nothing said."""
