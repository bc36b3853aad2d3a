"""Optimisation: optimizer, learning-rate schedule, averaging."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from equiprune.blocks import WeightLayout
from equiprune.errors import TargetError
from equiprune.files.settings import kind


class Schedule:
    """A factor on the learning rate as a function of the fraction of training done."""

    def factor(self, done: float) -> float:
        """From 0 (start) to 1 (end); 1 leaves the learning rate as it is."""
        return 1.0


@kind("constant", "Constant")
@dataclass(frozen=True)
class Constant(Schedule):
    """No change."""


@kind("linear", "Linear")
@dataclass(frozen=True)
class Linear(Schedule):
    """From 1 down to ``end`` in a straight line (SevenNet's recipe).

    >>> Linear(0.01).factor(0.5)
    0.505
    """

    end: float = 0.01

    def factor(self, done: float) -> float:
        return 1 - (1 - self.end) * done


@kind("cosine", "Cosine")
@dataclass(frozen=True)
class Cosine(Schedule):
    """From 1 down to ``end`` along half a cosine.

    >>> Cosine(0.0).factor(0.5)
    0.5
    """

    end: float = 0.01

    def factor(self, done: float) -> float:
        return round(self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * done)), 12)


@kind("plateau", "Plateau")
@dataclass(frozen=True)
class Plateau(Schedule):
    """Times ``factor_`` whenever the validation loss has not improved for ``patience`` validations (MACE's recipe)."""

    factor_: float = 0.8
    patience: int = 5

    def after(self, history: Sequence[float]) -> float:
        """The factor that a history of validation losses has earned."""
        best, waited, factor = math.inf, 0, 1.0
        for loss in history:
            if loss < best:
                best, waited = loss, 0
            else:
                waited += 1
            if waited > self.patience:
                factor, waited = factor * self.factor_, 0
        return factor


@kind("optimisation")
@dataclass(frozen=True)
class Optimisation:
    """Optimizer and schedule.

    Attributes:
        learning_rate: of Adam.
        schedule: its change over training.
        warm_up: steps over which the learning rate rises from zero.
        amsgrad: the variant of Adam that MACE uses.
        weight_decay: decoupled (AdamW), on weights that mix channels only: biases and norms stay as they are.
        clip: largest norm of the gradient; None for no limit.
        average: decay of the exponential moving average of the weights; None for none.
        rates: factors on the learning rate of parameters whose name matches a pattern, first match first; 0 freezes.
    """

    learning_rate: float = 1e-3
    schedule: Schedule = field(default_factory=Constant)
    warm_up: int = 0
    amsgrad: bool = False
    weight_decay: float = 0.0
    clip: float | None = 10.0
    average: float | None = 0.99
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        allowed = {
            "learning_rate": (0 < self.learning_rate < math.inf, "a positive number"),
            "warm_up": (self.warm_up >= 0, "0 or more steps"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or a positive number"),
            "clip": (self.clip is None or self.clip > 0, "a positive number, or None"),
            "average": (self.average is None or 0 <= self.average < 1, "a number from 0 to below 1, or None"),
            "rates": (all(0 <= rate < math.inf for rate in self.rates.values()), "factors from 0"),
        }
        for name, (possible, instead) in allowed.items():
            if not possible:
                given = f"{name.replace('_', ' ')} {getattr(self, name)}"
                raise TargetError(f"The {given} is not possible: give {instead}.")

    def rate_of(self, name: str) -> float:
        """The factor on one parameter's learning rate."""
        return next((rate for pattern, rate in self.rates.items() if fnmatchcase(name, pattern)), 1.0)


def freeze(module: nn.Module, names: Sequence[str], optimisation: Optimisation) -> None:
    """Take parameters whose rate is 0 out of training; ``names`` are those that upstream trains.

    Raises:
        TargetError: a pattern matches nothing, or nothing is left to train.
    """
    for pattern in optimisation.rates:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise TargetError(f"No parameter matches '{pattern}'. The model has, for example, {', '.join(names[:5])}.")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in names and optimisation.rate_of(name) > 0)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise TargetError("Every parameter is frozen, so there is nothing to train.")


def optimizer(
    module: nn.Module, optimisation: Optimisation, layouts: Mapping[str, WeightLayout]
) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters, grouped by learning rate and decay.

    The layout says what a parameter is: e3nn's flat vectors are matrices one after another and decay; norms do not.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decays = any(len(path.axes) > 1 for path in layouts[name].paths)
            groups.setdefault((optimisation.rate_of(name), decays), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": optimisation.learning_rate * rate,
            "factor": rate,
            "weight_decay": optimisation.weight_decay if decays else 0.0,
        }
        for (rate, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(settings, amsgrad=optimisation.amsgrad)


def set_learning_rate(
    made: torch.optim.Optimizer, optimisation: Optimisation, step: int, steps: int, losses: Sequence[float]
) -> float:
    """Set the learning rate for a step and return it (of parameters with factor 1)."""
    schedule = optimisation.schedule
    factor = schedule.after(losses) if isinstance(schedule, Plateau) else schedule.factor(step / max(steps, 1))
    if step < optimisation.warm_up:
        factor *= (step + 1) / optimisation.warm_up
    rate = optimisation.learning_rate * factor
    for group in made.param_groups:
        group["lr"] = rate * group["factor"]
    return rate


def averaged(average: Mapping[str, Tensor], module: nn.Module, decay: float, step: int) -> dict[str, Tensor]:
    """The moving average after one more step; it forgets faster at first, so that it does not remember the start.

    A weight that does not change is its own average, bit by bit.
    """
    now = min(decay, (1 + step) / (10 + step))
    return {name: average[name].lerp(parameter.detach(), 1 - now) for name, parameter in module.named_parameters()}
