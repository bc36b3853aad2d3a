"""From targets and scores to a plan.

A target fixes how many channels of each irrep each *group* keeps (a group is one space, or several that must keep
equally many). Scores then say which. Nothing is removed that a target did not ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from equiprune.adapters import ModelAdapter
from equiprune.blocks import BlockMask, ChannelTying, FeatureSpace, Irrep, Irreps, PruningPlan, Role
from equiprune.errors import PlanError, TargetError
from equiprune.potential import Potential
from equiprune.pruning.cost import count_parameters, parameters
from equiprune.pruning.dead_blocks import lossless_plan
from equiprune.pruning.importance import ImportanceScores
from equiprune.pruning.slicing import prune_checkpoint
from equiprune.pruning.targets import (
    Channels,
    EdgeLmax,
    Elements,
    Exactly,
    Heads,
    HiddenIrreps,
    Lmax,
    Lossless,
    Parameters,
    RadialBasis,
    RadialWidth,
    Target,
)

Counts = Mapping[tuple[str, Irrep], int]
"""(group, irrep) to channels kept."""

_HIDDEN = (Role.NODE_FEATS, Role.EDGE_IRREPS)


@dataclass(frozen=True)
class Model:
    """What allocation looks at: the spaces and the cost, never the weights."""

    adapter: ModelAdapter
    architecture: Any
    spaces: tuple[FeatureSpace, ...]

    def of(self, *roles: Role) -> list[FeatureSpace]:
        """Spaces with one of these roles, in order."""
        return [space for space in self.spaces if space.role in roles]

    def only(self, role: Role) -> FeatureSpace:
        """The one space of this role; raises `TargetError` where the architecture has none that can be pruned."""
        spaces = self.of(role)
        if len(spaces) != 1:
            raise TargetError(f"This model has no {role.value} that can be pruned. Leave out that target.")
        return spaces[0]

    def full(self) -> Counts:
        """Everything kept."""
        return {(group_of(space), ir): mul for space in self.spaces for mul, ir in space.irreps}


def group_of(space: FeatureSpace) -> str:
    """The size group, or the space itself."""
    return space.size_group or space.name


def allocate(
    potential: Potential, targets: Sequence[Target], scores: ImportanceScores | None = None, *, round_to: int = 1
) -> PruningPlan:
    """The plan that reaches all targets at once, keeping the best-scored blocks.

    Args:
        potential: the model to prune.
        targets: each only removes; together they must leave a model that can be built.
        scores: needed where a target leaves a choice of channels.
        round_to: hidden multiplicities become multiples of this (accelerated kernels want 16 or 32); an irrep that
            would keep less than half of it is dropped.

    Raises:
        TargetError: impossible, contradictory, or in need of scores that were not given.
        PlanError: scores or plan of another model.
    """
    model = Model(potential.adapter, potential.architecture, potential.spaces)
    if scores is not None:
        scores.check(model.spaces)
    counts = model.full()
    explicit = PruningPlan.nothing()
    for target in targets:
        match target:
            case Exactly(plan):
                plan.check(model.spaces)
                explicit = explicit & plan
            case Lossless() | Parameters():
                pass  # both depend on what the other targets leave
            case Elements() | Heads() | EdgeLmax():
                explicit = explicit & _named(model, target)
            case _:
                counts = _lower(counts, _wanted(model, target))
    _check_named(model, targets, explicit)
    for space in model.spaces:
        counts = _lower(counts, {(group_of(space), ir): len(explicit.mask(space).of(ir)) for _, ir in space.irreps})
    counts = _rounded(model, counts, round_to) if round_to > 1 else counts
    try:
        _first_channels(model.spaces, counts, explicit).check(model.spaces)
    except PlanError as error:
        raise TargetError(f"These targets leave no model: {error}") from error
    for target in targets:
        if isinstance(target, Parameters):
            counts = _within_budget(model, counts, explicit, target, _required(scores, "--parameters"), round_to)
    plan = ranked_plan(model.spaces, counts, scores, explicit)
    if Lossless() in targets:
        left = prune_checkpoint(potential.adapter, potential.checkpoint, plan, torch.float64)
        plan = plan.then(lossless_plan(potential.adapter, left))
    plan.check(model.spaces)
    return plan


def ranked_plan(
    spaces: Sequence[FeatureSpace], counts: Counts, scores: ImportanceScores | None, explicit: PruningPlan
) -> PruningPlan:
    """Keep the best ``counts`` channels of each irrep of each space, of those that ``explicit`` keeps and in its order.

    Raises:
        TargetError: some but not all channels are to be kept and there are no scores to choose by.
    """
    masks = {}
    for space in spaces:
        kept = {ir: _best(space, ir, counts[group_of(space), ir], scores, explicit) for _, ir in space.irreps}
        masks[space.name] = BlockMask.keep(space.irreps, kept)
    return PruningPlan(masks)


def _best(
    space: FeatureSpace, ir: Irrep, count: int, scores: ImportanceScores | None, explicit: PruningPlan
) -> list[int]:
    available = explicit.mask(space).of(ir)
    if count in (0, len(available)):
        return list(available[:count])
    values = _required(scores, f"{count} of {len(available)} channels of {ir} in {space.name}").mean.get(space.name)
    if values is None:
        raise TargetError(f"The scores say nothing of {space.name}; calibrate this model again.")
    deciding = np.sum(list(values.values()), axis=0) if space.tying is ChannelTying.ACROSS_L else values[ir]
    best = set(sorted(sorted(available), key=lambda channel: -deciding[channel])[:count])
    return [channel for channel in available if channel in best]


def _required(scores: ImportanceScores | None, what: str) -> ImportanceScores:
    if scores is None:
        raise TargetError(
            f"Choosing {what} needs importance scores. Give --scores (from 'equiprune calibrate') or --data, "
            "or --criterion magnitude or random, which need no data."
        )
    return scores


def _lower(counts: Counts, wanted: Counts) -> Counts:
    return {key: min(count, wanted.get(key, count)) for key, count in counts.items()}


def _wanted(model: Model, target: Target) -> Counts:
    match target:
        case HiddenIrreps(irreps):
            return _hidden_irreps(model, irreps)
        case Lmax(lmax):
            _check_at_most(lmax, max(s.irreps.lmax for s in model.of(Role.NODE_FEATS)), "--lmax", 0)
            return {(group_of(s), ir): 0 for s in model.of(*_HIDDEN) for _, ir in s.irreps if ir.l > lmax}
        case Channels(channels):
            most = max(mul for s in model.of(Role.NODE_FEATS) for mul, _ in s.irreps)
            _check_at_most(channels, most, "--channels", 1)
            return {(group_of(s), ir): min(mul, channels) for s in model.of(*_HIDDEN) for mul, ir in s.irreps}
        case RadialWidth(widths):
            return _radial_widths(model, widths)
        case RadialBasis(functions):
            space = model.only(Role.RADIAL_BASIS)
            _check_at_most(functions, space.irreps.channels, "--radial-basis", 1)
            return {(group_of(space), space.irreps.entries[0][1]): functions}
    raise TypeError(f"unhandled target {target}")


def _check_at_most(given: int, largest: int, flag: str, smallest: int) -> None:
    if not smallest <= given <= largest:
        raise TargetError(f"{flag} {given} is not possible: this model allows {smallest} to {largest}.")


def _hidden_irreps(model: Model, wanted: tuple[Irreps, ...]) -> Counts:
    spaces = model.of(Role.NODE_FEATS)
    shown = ", ".join(str(space.irreps) for space in spaces)
    if len(wanted) == 1:
        known = {ir for space in spaces for _, ir in space.irreps}
        for mul, ir in wanted[0]:
            most = max((space.irreps.mul(ir) for space in spaces), default=0)
            if ir not in known or mul > most:
                raise TargetError(f"{mul}x{ir} is more than the model has anywhere: its hidden irreps are {shown}.")
        wanted = tuple(Irreps(tuple((m, ir) for m, ir in wanted[0] if space.irreps.mul(ir))) for space in spaces)
    if len(wanted) != len(spaces):
        raise TargetError(f"--irreps takes one list or {len(spaces)}, not {len(wanted)}. The model has {shown}.")
    counts: dict[tuple[str, Irrep], int] = {}
    for space, irreps in zip(spaces, wanted, strict=True):
        for mul, ir in irreps:
            if mul > space.irreps.mul(ir):
                raise TargetError(f"{mul}x{ir} is more than {space.name} has: it is '{space.irreps}'.")
        counts |= {(group_of(space), ir): irreps.mul(ir) for _, ir in space.irreps}
    return counts


def _radial_widths(model: Model, widths: tuple[int, ...]) -> Counts:
    groups = {group_of(space): space for space in model.of(Role.RADIAL_WIDTH)}
    if len(widths) == 1:
        widths = widths * len(groups)
    if len(widths) != len(groups):
        raise TargetError(f"--radial-width takes one number or {len(groups)}, not {len(widths)}.")
    counts = {}
    for width, (group, space) in zip(widths, groups.items(), strict=True):
        _check_at_most(width, space.irreps.channels, "--radial-width", 1)
        counts[group, space.irreps.entries[0][1]] = width
    return counts


def _named(model: Model, target: Elements | Heads | EdgeLmax) -> PruningPlan:
    match target:
        case EdgeLmax(lmax):
            space = model.only(Role.EDGE_ATTRS)
            _check_at_most(lmax, space.irreps.lmax, "--edge-lmax", 0)
            return PruningPlan(
                {space.name: BlockMask.keep(space.irreps, {ir: [0] for _, ir in space.irreps if ir.l <= lmax})}
            )
        case Elements(numbers):
            names = [chemical_symbols[z] for z in model.architecture.elements]
            return _subset(model, Role.ELEMENTS, [chemical_symbols[z] for z in numbers], names)
        case Heads(names_wanted):
            return _subset(model, Role.HEADS, list(names_wanted), list(model.architecture.heads))


def _check_named(model: Model, targets: Sequence[Target], explicit: PruningPlan) -> None:
    """Elements and heads are kept exactly as named, in that order, whatever else a plan says."""
    for target in targets:
        if isinstance(target, Elements | Heads):
            for name, mask in _named(model, target).masks.items():
                if explicit.masks[name] != mask:
                    raise TargetError(
                        f"The plan and the other targets disagree on which {name} to keep. Leave out one."
                    )


def _subset(model: Model, role: Role, wanted: list[str], known: list[str]) -> PruningPlan:
    for name in wanted:
        if name not in known:
            raise TargetError(f"The model does not know {name}. It knows {', '.join(known) or 'none'}.")
    if not wanted or len(set(wanted)) != len(wanted):
        raise TargetError(f"Name each of the {role.value} to keep exactly once, at least one.")
    space = model.only(role)
    scalar = space.irreps.entries[0][1]
    return PruningPlan({space.name: BlockMask.keep(space.irreps, {scalar: [known.index(name) for name in wanted]})})


def _rounded(model: Model, counts: Counts, round_to: int) -> Counts:
    hidden = {group_of(space): space for space in model.of(*_HIDDEN)}
    rounded = dict(counts)
    for (group, ir), count in counts.items():
        if group in hidden:
            rounded[group, ir] = _round(count, hidden[group].irreps.mul(ir), round_to)
    return rounded


def _round(count: int, available: int, round_to: int) -> int:
    if count >= round_to:
        return count // round_to * round_to
    return round_to if 2 * count >= round_to and available >= round_to else 0


def _within_budget(
    model: Model, counts: Counts, explicit: PruningPlan, target: Parameters, scores: ImportanceScores, round_to: int
) -> Counts:
    """The largest level of `_ladder` whose model fits, by bisection on exact parameter counts."""
    total = count_parameters(model.adapter, model.architecture).trainable
    budget = target.fraction * total

    def cost(candidate: Counts) -> int:
        plan = _first_channels(model.spaces, candidate, explicit)
        return parameters(model.adapter, model.architecture, plan).trainable

    level = _ladder(model, counts, scores, explicit, cost, round_to, target.floor)
    smallest = cost(level(0.0))
    if not 0 < target.fraction <= 1 or smallest > budget:
        raise TargetError(
            f"--parameters {target.fraction} is not possible: with the other targets and --floor {target.floor}, this "
            f"model can keep {smallest / total:.3f} to 1 of its {total:,} trainable parameters."
        )
    if cost(level(1.0)) <= budget:
        return level(1.0)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(level(middle)) <= budget else (low, middle)
    return level(low)


def _first_channels(spaces: Sequence[FeatureSpace], counts: Counts, explicit: PruningPlan) -> PruningPlan:
    """Any plan with these counts: cost depends on nothing else."""
    masks = {}
    for space in spaces:
        kept = {ir: explicit.mask(space).of(ir)[: counts[group_of(space), ir]] for _, ir in space.irreps}
        masks[space.name] = BlockMask.keep(space.irreps, kept)
    return PruningPlan(masks)


def _ladder(
    model: Model,
    counts: Counts,
    scores: ImportanceScores,
    explicit: PruningPlan,
    cost: Callable[[Counts], int],
    step: int,
    floor: float,
) -> Callable[[float], Counts]:
    """A one-parameter family of counts, from the smallest model (0) to ``counts`` (1).

    Channels are removed in steps of ``step``; the order is by importance lost per parameter saved, both measured from
    the model that ``counts`` leaves.
    """
    groups: dict[str, list[FeatureSpace]] = {}
    for space in model.of(*_HIDDEN):
        groups.setdefault(group_of(space), []).append(space)
    base, rungs, full_cost = dict(counts), [], cost(counts)
    for group, spaces in groups.items():
        for _, ir in spaces[0].irreps:
            available = counts[group, ir]
            smallest = max(step, *(space.minimum for space in spaces)) if ir.is_scalar else 0
            least = min(available, max(smallest, ceil(floor * available / step) * step))
            base[group, ir] = least
            gains = np.zeros(available)
            for space in spaces:
                values = scores.mean[space.name][ir][list(explicit.mask(space).of(ir))]
                gains += np.sort(values)[::-1][:available]
            removed = min(step, available - least)
            saved_per_channel = (full_cost - cost({**counts, (group, ir): available - removed})) / max(removed, 1)
            for start in range(least, available, step):
                stop = min(start + step, available)
                saved = saved_per_channel * (stop - start)
                rungs.append((float(np.sum(gains[start:stop])) / max(saved, 1), group, ir, stop - start))
    rungs.sort(key=lambda rung: -rung[0])

    def level(fraction: float) -> Counts:
        reached = dict(base)
        for _, group, ir, channels in rungs[: round(fraction * len(rungs))]:
            reached[group, ir] += channels
        return reached

    return level
