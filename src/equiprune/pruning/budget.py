"""Spending a budget of parameters where importance says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from equiprune.blocks import FeatureSpace, Irrep, PruningPlan
from equiprune.errors import TargetError
from equiprune.pruning.cost import count_parameters, parameters
from equiprune.pruning.counts import Counts, PruningProblem, group_of, placeholder_plan
from equiprune.pruning.importance import ImportanceScores

Cost = Callable[[Counts], int]


def within_budget(
    model: PruningProblem,
    counts: Counts,
    explicit: PruningPlan,
    scores: ImportanceScores,
    fraction: float,
    floor: float,
    round_to: int,
) -> Counts:
    """The largest level of `_ladder` whose model fits, by bisection on exact parameter counts.

    Args:
        model: what is pruned.
        counts: channels that other targets leave.
        explicit: what is kept by name.
        scores: importance of every block.
        fraction: of the trainable parameters that may be left.
        floor: fraction of the channels that every irrep keeps.
        round_to: channels go in steps of this.

    Raises:
        TargetError: no level fits.
    """
    total = count_parameters(model.adapter, model.architecture).trainable
    budget = fraction * total

    def cost(candidate: Counts) -> int:
        plan = placeholder_plan(model.spaces, candidate, explicit)
        return parameters(model.adapter, model.architecture, plan).trainable

    level = _ladder(model, counts, scores, explicit, cost, round_to, floor)
    smallest = cost(level(0.0))
    if not 0 < fraction <= 1 or smallest > budget:
        raise TargetError(
            f"`parameters` {fraction} is not possible: with the other targets and `floor` {floor}, this "
            f"model can keep {smallest / total:.3f} to 1 of its {total:,} trainable parameters."
        )
    if cost(level(1.0)) <= budget:
        return level(1.0)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(level(middle)) <= budget else (low, middle)
    return level(low)


@dataclass(frozen=True)
class _Unit:
    """Numbers of channels that go up and down together."""

    keys: Mapping[tuple[str, Irrep], tuple[FeatureSpace, ...]]

    def at(self, counts: Counts, level: int) -> dict[tuple[str, Irrep], int]:
        """Counts when this unit keeps up to ``level`` channels of each irrep that it has at all."""
        return {key: min(counts[key], level) for key in self.keys}


def _units(model: PruningProblem, counts: Counts) -> Iterator[_Unit]:
    """One irrep of one group of spaces; all irreps where they share their channels or upstream has one number."""
    units: dict[object, dict[tuple[str, Irrep], list[FeatureSpace]]] = {}
    across = {group_of(space) for space in model.spaces if space.joins_irreps}
    for space in (space for space in model.spaces if space.role.budgeted):
        for _, ir in space.irreps:
            key, together = (group_of(space), ir), model.tied(space)
            joined = group_of(space) in across or together != group_of(space)
            if counts[key]:
                units.setdefault(together if joined else key, {}).setdefault(key, []).append(space)
    for keys in units.values():
        yield _Unit({key: tuple(spaces) for key, spaces in keys.items()})


def _ladder(
    model: PruningProblem,
    counts: Counts,
    scores: ImportanceScores,
    explicit: PruningPlan,
    cost: Cost,
    step: int,
    floor: float,
) -> Callable[[float], Counts]:
    """A one-parameter family of counts, from the smallest model (0) to ``counts`` (1).

    Channels are removed in steps of ``step``; the order is by importance lost per parameter saved, both measured from
    the model that ``counts`` leaves.
    """
    units = list(_units(model, counts))
    least = [_least(unit, counts, step, floor) for unit in units]
    full_cost, rungs = cost(counts), []
    for number, unit in enumerate(units):
        available = max(counts[key] for key in unit.keys)
        gains = _gains(unit, available, scores, explicit)
        removed = min(step, available - least[number])
        saved_per_channel = (full_cost - cost({**counts, **unit.at(counts, available - removed)})) / max(removed, 1)
        for start in range(least[number], available, step):
            stop = min(start + step, available)
            saved = saved_per_channel * (stop - start)
            rungs.append((float(np.sum(gains[start:stop])) / max(saved, 1), number, stop - start))
    rungs.sort(key=lambda rung: -rung[0])

    def level(fraction: float) -> Counts:
        reached = list(least)
        for _, number, channels in rungs[: round(fraction * len(rungs))]:
            reached[number] += channels
        result = dict(counts)
        for unit, channels in zip(units, reached, strict=True):
            result |= unit.at(counts, channels)
        return result

    return level


def _least(unit: _Unit, counts: Counts, step: int, floor: float) -> int:
    """Fewest channels: the floor, and for units that hold scalars what the architecture needs."""
    available = max(counts[key] for key in unit.keys)
    spaces = [space for (_, ir), members in unit.keys.items() if ir.is_scalar for space in members]
    smallest = max(step, *(len(space.smallest().of(Irrep(0, 1))) for space in spaces)) if spaces else 0
    return min(available, max(smallest, ceil(floor * available / step) * step))


def _gains(unit: _Unit, available: int, scores: ImportanceScores, explicit: PruningPlan) -> np.ndarray:
    """Importance of the best channel, the second best, ..., summed over what moves together."""
    gains = np.zeros(available)
    for (_, ir), spaces in unit.keys.items():
        for space in spaces:
            values = scores.mean[space.name][ir][list(explicit.mask(space).of(ir))]
            best = np.sort(values)[::-1][:available]
            gains[: len(best)] += best
    return gains
