"""Widths: numbers of channels that go up and down together, and the order in which importance gives them up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from equiprune.blocks import FeatureSpace, Irrep, PruningPlan
from equiprune.pruning.counts import Counts, PruningProblem, group_of
from equiprune.pruning.importance import ImportanceScores

Cost = Callable[[Counts], float]

_LEAST_SAVED = 1e-9
"""Share of the cost that any channel saves, so that one which saves nothing goes last."""
_HALVINGS = 20


@dataclass(frozen=True)
class Unit:
    """Numbers of channels that go up and down together."""

    keys: Mapping[tuple[str, Irrep], tuple[FeatureSpace, ...]]

    def at(self, counts: Counts, level: int) -> dict[tuple[str, Irrep], int]:
        """Counts when this unit keeps up to ``level`` channels of each irrep that it has at all."""
        return {key: min(counts[key], level) for key in self.keys}


def units(model: PruningProblem, counts: Counts) -> Iterator[Unit]:
    """One irrep of one group of spaces; all irreps where they share their channels or upstream has one number."""
    found: dict[object, dict[tuple[str, Irrep], list[FeatureSpace]]] = {}
    across = {group_of(space) for space in model.spaces if space.joins_irreps}
    for space in (space for space in model.spaces if space.role.budgeted):
        for _, ir in space.irreps:
            key, together = (group_of(space), ir), model.tied(space)
            joined = group_of(space) in across or together != group_of(space)
            if counts[key]:
                found.setdefault(together if joined else key, {}).setdefault(key, []).append(space)
    for keys in found.values():
        yield Unit({key: tuple(spaces) for key, spaces in keys.items()})


def ladder(
    model: PruningProblem,
    counts: Counts,
    scores: ImportanceScores,
    explicit: PruningPlan,
    cost: Cost,
    step: int,
    floor: float,
    keep_lmax: int = 0,
) -> Callable[[float], Counts]:
    """A one-parameter family of counts, from the smallest model (0) to ``counts`` (1).

    Channels are removed in steps of ``step``; the order is by importance lost per cost saved, both measured from the
    model that ``counts`` leaves.
    """
    together = list(units(model, counts))
    fewest = [least(unit, counts, step, floor, keep_lmax) for unit in together]
    full_cost, rungs = cost(counts), []
    for number, unit in enumerate(together):
        available = max(counts[key] for key in unit.keys)
        gains = _gains(unit, available, scores, explicit)
        removed = min(step, available - fewest[number])
        saved_per_channel = (full_cost - cost({**counts, **unit.at(counts, available - removed)})) / max(removed, 1)
        for start in range(fewest[number], available, step):
            stop = min(start + step, available)
            saved = saved_per_channel * (stop - start)
            rungs.append(
                (float(np.sum(gains[start:stop])) / max(saved, _LEAST_SAVED * full_cost), number, stop - start)
            )
    rungs.sort(key=lambda rung: -rung[0])

    def level(fraction: float) -> Counts:
        reached = list(fewest)
        for _, number, channels in rungs[: round(fraction * len(rungs))]:
            reached[number] += channels
        result = dict(counts)
        for unit, channels in zip(together, reached, strict=True):
            result |= unit.at(counts, channels)
        return result

    return level


def least(unit: Unit, counts: Counts, step: int, floor: float, keep_lmax: int = 0) -> int:
    """Fewest channels: the floor, what the architecture needs of scalars, and one step of any l up to ``keep_lmax``."""
    available = max(counts[key] for key in unit.keys)
    spaces = [space for (_, ir), members in unit.keys.items() if ir.is_scalar for space in members]
    smallest = max(step, *(len(space.smallest().of(Irrep(0, 1))) for space in spaces)) if spaces else 0
    smallest = max(smallest, step if any(0 < ir.l <= keep_lmax for _, ir in unit.keys) else 0)
    return min(available, max(smallest, ceil(floor * available / step) * step))


def _gains(unit: Unit, available: int, scores: ImportanceScores, explicit: PruningPlan) -> np.ndarray:
    """Importance of the best channel, the second best, ..., summed over what moves together."""
    gains = np.zeros(available)
    for (_, ir), spaces in unit.keys.items():
        for space in spaces:
            values = scores.mean[space.name][ir][list(explicit.mask(space).of(ir))]
            best = np.sort(values)[::-1][:available]
            gains[: len(best)] += best
    return gains


def largest(level: Callable[[float], Counts], fits: Callable[[Counts], bool]) -> Counts:
    """The largest level from 0 to 1 that fits, by bisection; level 0 is taken to fit."""
    if fits(level(1.0)):
        return level(1.0)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(level(middle)) else (low, middle)
    return level(low)
