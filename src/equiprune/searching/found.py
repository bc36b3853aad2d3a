"""The outcome of a search: the chosen plan, everything that was tried, and why."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equiprune.blocks import PruningPlan
from equiprune.files.settings import to_json
from equiprune.searching.budget import Budget
from equiprune.searching.cost_model import Conditions
from equiprune.searching.journal import Finalist, Journal, Tried, finalist_json


@dataclass(frozen=True)
class Beside:
    """A model that what was found is compared with, as it is: the parent, the official small model.

    Attributes:
        name: of the model.
        speed: atoms per second over the parent's, measured in turns.
        forces: mean absolute difference from the labels of structures that were held out, meV/Angstrom; 0 for a parent
            whose labels they are.
    """

    name: str
    speed: float
    forces: float


@dataclass(frozen=True)
class Found:
    """A plan that keeps a budget.

    Attributes:
        chosen: the finalist with the smallest error of forces.
        budget: what was asked for.
        journal: everything that was tried.
        cost_errors: relative errors of times that the cost model predicts, each from the others.
        conditions: what was timed.
        beside: the parent first, then other models as they are.
    """

    chosen: Finalist
    budget: Budget
    journal: Journal
    cost_errors: Sequence[float]
    conditions: Conditions
    beside: Sequence[Beside] = ()

    @property
    def plan(self) -> PruningPlan:
        """The plan of the chosen model."""
        return self.chosen.plan

    @property
    def origin(self) -> Tried:
        """The candidate that the chosen model was."""
        return next(each for each in self.journal.tried if each.number == self.chosen.number)

    @property
    def reason(self) -> str:
        """The choice in two sentences."""
        cost, forces, asked = self.chosen.measured, self.chosen.forces, self.budget.max_force_error
        name = f"Candidate {self.chosen.number} ({self.origin.made}; {self.origin.shape})"
        trained, repaired = len(self.finalists), len(self.journal.tried)
        if asked is None:
            first = (
                f"{name} has the smallest error of forces, {forces:.1f} meV/Angstrom after brief training, of "
                f"{trained} that were trained and {repaired} that were repaired."
            )
        else:
            first = (
                f"{name} is the smallest that was found to keep forces within {asked:g} meV/Angstrom: {forces:.1f} "
                f"after brief training, of {trained} that were trained and {repaired} that were repaired."
            )
        return (
            f"{first} It is {cost.speed:.2f} times as fast as its parent, measured beside it on "
            f"{self.conditions.total} atoms, and has {cost.parameters:.3g} of its parameters."
        )

    @property
    def front(self) -> list[Finalist]:
        """Finalists than which none is both faster and more accurate, the fastest first."""
        ordered = sorted(self.finalists, key=lambda each: each.measured.time)
        return [each for i, each in enumerate(ordered) if all(each.forces < faster.forces for faster in ordered[:i])]

    @property
    def finalists(self) -> list[Finalist]:
        """Candidates that were trained, the best first."""
        return [each for each in self._measured if each.errors is not None]

    @property
    def _measured(self) -> list[Finalist]:
        """All that were measured, also those that were left out, which come last."""
        return sorted(self.journal.finalists, key=lambda each: each.forces)

    def to_json(self) -> dict[str, Any]:
        """A JSON value; ``plan`` is what 'equiprune prune --plan' reads, and `Journal.from_json` reads the journal."""
        return {
            "plan": self.plan.to_json(),
            "reason": self.reason,
            "budget": to_json(self.budget),
            "speed": self.chosen.measured.speed,
            "measured": vars(self.chosen.measured),
            "errors": finalist_json(self.chosen)["errors"],
            "timed_atoms": self.conditions.total,
            "cost_model_error": statistics.median(self.cost_errors),
            "chosen": self.chosen.number,
            "front": [each.number for each in self.front],
            **self.journal.to_json(),
            "finalists": [finalist_json(each) for each in self._measured],
            "cost_errors": list(self.cost_errors),
            "beside": [vars(each) for each in self.beside],
        }
