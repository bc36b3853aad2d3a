"""Candidates: plans that keep a budget, as far as costs can be predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from equiprune.blocks import PruningPlan
from equiprune.errors import PlanError, TargetError
from equiprune.pruning.allocation import asked_for, check_possible, ranked_plan
from equiprune.pruning.counts import Counts, PruningProblem, group_of, placeholder_plan, rounded
from equiprune.pruning.importance import ImportanceScores
from equiprune.pruning.targets import Target
from equiprune.pruning.widths import Unit, ladder, largest, least, units
from equiprune.searching.budget import Budget, Cost
from equiprune.searching.shapes import Shape

_FLOORS = (0.25, 0.1, 0.0)
"""Shares of its channels that an irrep keeps where importance decides; see `equiprune.Parameters`. The first that the
budget allows."""
_DRAWS = 20
"""Plans that are drawn for one that leaves a model."""
_CHANGE = 1.4
"""Factor by which a changed candidate has more or fewer channels of one l, or in one group of spaces."""


@dataclass(frozen=True)
class Candidate:
    """A smaller model that may be what is looked for.

    Attributes:
        made: how it was found, in words.
        shape: what it loses besides channels.
        counts: channels that it keeps.
        plan: the same, with the channels.
        predicted: cost by the cost model.
    """

    made: str
    shape: Shape
    counts: Counts
    plan: PruningPlan
    predicted: Cost


@dataclass(frozen=True)
class Asked:
    """A request to a search: the model, what it must keep besides the budget, and what importance and costs say.

    Attributes:
        model: what is pruned.
        targets: constraints, which every candidate keeps.
        scores: importance of every block.
        budget: what a candidate may cost.
        cost: predicts that from an architecture.
        round_to: channels go in steps of this.
        keep_lmax: features keep channels of every l up to this, wherever they have them.
    """

    model: PruningProblem
    targets: tuple[Target, ...]
    scores: ImportanceScores
    budget: Budget
    cost: Callable[[Any], Cost]
    round_to: int = 1
    keep_lmax: int = 0

    @cached_property
    def explicit(self) -> PruningPlan:
        """Kept by name: elements, heads."""
        return asked_for(self.model, self.targets)[1]

    def by_importance(self, shape: Shape) -> Candidate | None:
        """The best-scored channels for what they cost; None where the budget cannot be kept."""
        full = self._full(shape)
        if full is None:
            return None
        for floor in _FLOORS:
            how = (full, self.scores, self.explicit, self._time_of, self.round_to, floor, self.keep_lmax)
            if found := self._fitting("by importance", shape, ladder(self.model, *how), 1.0):
                return found
        return None

    def even(self, shape: Shape) -> Candidate | None:
        """The same share of all widths, as one would choose by hand."""
        return self._by_share("even widths", shape, lambda _: 1.0, 1.0)

    def changed(self, start: Candidate, number: int, shape: Shape, random: np.random.Generator) -> Candidate | None:
        """Another one with more or fewer channels of one l, or in one group of spaces, and the rest as that allows.

        ``number`` is that of the one it came from. Changes of every width at once hardly ever help: most are bad.
        """
        full = self._full(shape)
        if full is None:
            return None
        kinds = sorted({kind for unit in units(self.model, full) for kind in _kinds(unit)}, key=str)
        chosen, factor = kinds[int(random.integers(len(kinds)))], _CHANGE ** float(random.choice((-1, 1)))

        def scaled(unit: Unit) -> float:
            return factor if chosen in _kinds(unit) else 1.0

        return self._like(start, shape, scaled, f"changed from {number}", 1.0)

    def is_full(self, candidate: Candidate) -> bool:
        """True for a candidate that lost nothing but its shape, so that no widths are left to choose."""
        return candidate.counts == self._full(candidate.shape)

    def again(self, start: Candidate, margin: float) -> Candidate | None:
        """The same in another size, because it costs something else than was predicted.

        ``margin`` is by how much the budget is taken to be larger than it is.
        """
        return self._like(start, start.shape, lambda _: 1.0, start.made, margin)

    def restored(self, made: str, shape: Shape, plan: PruningPlan) -> Candidate:
        """The candidate of a plan."""
        spaces = self.model.spaces
        counts = {(group_of(space), ir): len(plan.mask(space).of(ir)) for space in spaces for _, ir in space.irreps}
        return Candidate(made, shape, counts, plan, self._cost_of(counts))

    def smallest(self, shape: Shape) -> Candidate | None:
        """As small as a model of a shape can be."""
        full = self._full(shape)
        if full is None:
            return None
        counts = dict(full)
        for unit in units(self.model, full):
            counts |= unit.at(full, self._least(unit, full))
        return self._candidate("smallest", shape, counts)

    def _least(self, unit: Unit, full: Counts) -> int:
        return least(unit, full, self.round_to, 0.0, self.keep_lmax)

    def _like(
        self, start: Candidate, shape: Shape, factor: Callable[[Unit], float], made: str, margin: float
    ) -> Candidate | None:
        """Widths in proportion to those of another one, times a factor for each unit."""

        def share(unit: Unit) -> float:
            have = [(start.counts[key], self._parent_counts[key]) for key in unit.keys if self._parent_counts[key]]
            return max((kept / full for kept, full in have if kept), default=0.5) * factor(unit)

        return self._by_share(made, shape, share, margin)

    @cached_property
    def _parent_counts(self) -> Counts:
        return self.model.full()

    def _by_share(self, made: str, shape: Shape, share: Callable[[Unit], float], margin: float) -> Candidate | None:
        full = self._full(shape)
        if full is None:
            return None
        together = [(unit, share(unit)) for unit in units(self.model, full)]
        highest = max((1 / max(part, 1e-6) for _, part in together), default=1.0)

        def level(size: float) -> Counts:
            counts = dict(full)
            for unit, part in together:
                available = max(full[key] for key in unit.keys)
                wanted = int(min(1.0, size * highest * part) * available + 0.5) // self.round_to * self.round_to
                counts |= unit.at(full, max(wanted, self._least(unit, full)))
            return counts

        return self._fitting(made, shape, level, margin)

    def _fitting(self, made: str, shape: Shape, level: Callable[[float], Counts], margin: float) -> Candidate | None:
        def fits(counts: Counts) -> bool:
            return self.budget.excess(self._cost_of(counts)) <= margin

        try:
            return self._candidate(made, shape, largest(level, fits)) if fits(level(0.0)) else None
        except (PlanError, TargetError):
            return None

    def _candidate(self, made: str, shape: Shape, counts: Counts) -> Candidate:
        plan = ranked_plan(self.model.spaces, counts, self.scores, self.explicit)
        plan.check(self.model.spaces)
        return Candidate(made, shape, counts, plan, self._cost_of(counts))

    def _cost_of(self, counts: Counts) -> Cost:
        asked = frozenset(counts.items())
        if asked not in self._known:  # bisections end among the same few
            plan = placeholder_plan(self.model.spaces, counts, self.explicit)
            self._known[asked] = self.cost(self.model.adapter.shrink(self.model.architecture, plan))
        return self._known[asked]

    @cached_property
    def _known(self) -> dict[frozenset[Any], Cost]:
        """Costs that were predicted, by channels."""
        return {}

    def _time_of(self, counts: Counts) -> float:
        """The cost by which importance is weighed: of what is limited, the one that is exceeded most."""
        return self.budget.excess(self._cost_of(counts)) or self._cost_of(counts).time

    def _full(self, shape: Shape) -> Counts | None:
        """Channels that a shape and the constraints leave; None where they leave no model."""
        try:
            available, explicit = asked_for(self.model, [*self.targets, *shape])
            counts = rounded(self.model, available, self.round_to, explicit) if self.round_to > 1 else available
            assembled = self.model.heterogeneous or self.model.architecture.assembled
            check_possible(self.model, placeholder_plan(self.model.spaces, counts, explicit), assembled=assembled)
        except (PlanError, TargetError):
            return None
        lost = any(available[key] and not counts[key] for key in counts if 0 < key[1].l <= self.keep_lmax)
        return None if lost else counts


def _kinds(unit: Unit) -> set[int | str]:
    """Degrees and groups of spaces that a unit has channels of."""
    return {kind for group, ir in unit.keys for kind in (ir.l, group)}


def drawn(
    model: PruningProblem, targets: tuple[Target, ...], every: Sequence[Shape], random: np.random.Generator
) -> PruningPlan:
    """A plan of one of the shapes, more often of those that lose little, which come first, with random widths.

    Raises:
        TargetError: none of those that were drawn leaves a model.
    """
    for _ in range(_DRAWS):
        shape = every[int(len(every) * random.random() ** 2)]
        with suppress(PlanError, TargetError):
            return _of_shape(model, targets, shape, random)
    raise TargetError("The constraints leave nothing to choose. Ask for fewer of them.")


def _of_shape(
    model: PruningProblem, targets: tuple[Target, ...], shape: Shape, random: np.random.Generator
) -> PruningPlan:
    """A plan with random widths, the same size for most of them; raises `PlanError` where a shape leaves no model."""
    counts, explicit = asked_for(model, [*targets, *shape])
    size, found = random.uniform(0.1, 1), dict(counts)
    for unit in units(model, counts):
        available = max(counts[key] for key in unit.keys)
        width = round(min(1.0, size * random.uniform(0.6, 1.4)) * available)
        found |= unit.at(counts, max(width, least(unit, counts, 1, 0.0)))
    plan = placeholder_plan(model.spaces, found, explicit)
    plan.check(model.spaces)
    model.adapter.shrink(model.architecture, plan)
    return plan
