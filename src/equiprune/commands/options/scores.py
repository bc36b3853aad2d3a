"""Importance: criterion, data, stored scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Bare, Complete, NotNegative, Positive
from equiprune.commands.stages import Product, Takes, scores_of_the_model
from equiprune.errors import TargetError
from equiprune.pruning.criteria import (
    Activation,
    Criterion,
    DataCriterion,
    Magnitude,
    Random,
    Taylor,
    TaylorEnergy,
    TaylorForces,
)

CriterionName = Literal["taylor", "taylor-energy", "taylor-forces", "activation", "magnitude", "random"]


@Parameter(name="*", group=panel("Where importance comes from"))
@dataclass(frozen=True)
class ScoreOptions(Complete):
    """The source of importance: criterion, data, stored scores.

    Attributes:
        scores: importance scores from 'equiprune calibrate'.
        data: structures to calibrate on now, instead of scores.
        criterion: with --data taylor (unless given) or activation; alone magnitude or random.
        seed: of the random criterion, and of what --reinitialise draws.
        limit: use only the first this many structures of the data.
    """

    scores: Annotated[Path | None, Takes.of(Product.SCORES, rule=scores_of_the_model)] = None
    data: Bare | None = None
    criterion: CriterionName | None = None
    seed: NotNegative = 0
    limit: Positive | None = None

    def check(self) -> None:
        self.chosen()

    def chosen(self) -> Criterion | None:
        """The criterion to calibrate by now, None without one; raises `TargetError` where they contradict."""
        if self.scores is not None and (self.data is not None or self.criterion is not None):
            raise TargetError("`scores` already says everything; leave out `data` and `criterion`.")
        if self.limit is not None and self.data is None:
            raise TargetError("`limit` counts the structures of `data`; give `data` or leave `limit` out.")
        if self.criterion is None:
            return Taylor() if self.data is not None else None
        chosen = criterion_named(self.criterion, self.seed)
        if isinstance(chosen, DataCriterion) and self.data is None:
            raise TargetError(f"`criterion` {self.criterion} looks at structures: give `data`.")
        if self.data is not None and not isinstance(chosen, DataCriterion):
            raise TargetError(f"`criterion` {self.criterion} looks at no structures: leave out `data`.")
        return chosen


def criterion_named(name: CriterionName, seed: int) -> Criterion:
    """The criterion that a word means."""
    criteria: dict[CriterionName, Criterion] = {
        "taylor": Taylor(),
        "taylor-energy": TaylorEnergy(),
        "taylor-forces": TaylorForces(),
        "activation": Activation(),
        "magnitude": Magnitude(),
        "random": Random(seed),
    }
    return criteria[name]


NO_SCORES = ScoreOptions()
"""Nothing said."""
