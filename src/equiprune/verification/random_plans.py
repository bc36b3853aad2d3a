"""Random plans that obey every rule that feature spaces declare: what tests prune by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from numpy.random import Generator

from equiprune.blocks import BlockMask, FeatureSpace, Irrep, PruningPlan, Role, widened_together
from equiprune.potentials.potential import Potential
from equiprune.pruning.counts import group_of

_DROPPED = 0.2
"""Probability that an irrep is dropped entirely, where the rules allow it."""


def random_plan(
    model: Potential | Iterable[FeatureSpace], generator: Generator, *, roles: Collection[Role] | None = None
) -> PruningPlan:
    """A random plan that obeys every rule the spaces declare.

    Counts differ between spaces and irreps, and so do the kept channels of spaces that must keep equally many. Whole
    irreps are dropped now and then; elements also change their order.

    Args:
        model: a potential, or the spaces of one.
        generator: draws everything.
        roles: touch only spaces of these roles, and those that must keep as many channels as one of them; all but heads
            unless given.

    >>> from numpy.random import default_rng
    >>> from equiprune.blocks import Irreps
    >>> space = FeatureSpace("node_feats.0", Irreps.parse("4x0e+3x1o"), Role.NODE_FEATS)
    >>> plan = random_plan([space], default_rng(2))
    >>> plan.check([space]), str(plan.mask(space).kept_irreps)
    (None, '2x0e+1x1o')
    """
    spaces = tuple(model.spaces if isinstance(model, Potential) else model)
    touched = {group_of(space) for space in spaces if _touches(space, roles)}
    counts = _random_counts([space for space in spaces if group_of(space) in touched], generator)
    drawn = {
        space.name: _random_mask(space, counts[group_of(space)], generator)
        for space in spaces
        if group_of(space) in touched
    }
    masks = widened_together(spaces, drawn)
    return PruningPlan({s.name: _shuffled(s, masks[s.name], drawn[s.name]) for s in spaces if s.name in masks})


def _touches(space: FeatureSpace, roles: Collection[Role] | None) -> bool:
    return space.role != Role.HEADS if roles is None else space.role in roles


def _random_counts(spaces: Iterable[FeatureSpace], generator: Generator) -> dict[str, dict[Irrep, int]]:
    """Channels of each irrep by group; where the spaces of a group differ in how many they have, of the fewest."""
    muls: dict[str, dict[Irrep, int]] = {}
    joined = set()
    for space in spaces:
        own = muls.setdefault(group_of(space), {})
        own |= {ir: min(mul, own.get(ir, mul)) for mul, ir in space.irreps}
        joined |= {group_of(space)} if space.joins_irreps else set()
    counts = {}
    for group, of_group in muls.items():
        number = int(generator.integers(1, min(of_group.values()) + 1))
        drawn = {ir: number if group in joined else int(generator.integers(1, m + 1)) for ir, m in of_group.items()}
        dropped = [ir for ir in list(of_group)[1:] if generator.random() < _DROPPED]
        counts[group] = drawn | dict.fromkeys(dropped, 0)
    return counts


def _random_mask(space: FeatureSpace, counts: Mapping[Irrep, int], generator: Generator) -> BlockMask:
    """The best so many channels by random scores, read as the rules say."""
    scores = space.ranked({ir: generator.random(mul) for mul, ir in space.irreps})
    best = {ir: sorted((-scores[ir]).argsort(kind="stable")[: counts[ir]].tolist()) for _, ir in space.irreps}
    return BlockMask.keep(space.irreps, best)


def _shuffled(space: FeatureSpace, mask: BlockMask, drawn: BlockMask) -> BlockMask:
    """Elements in another order, which depends on what was drawn; every other space in its own."""
    if space.role != Role.ELEMENTS:
        return mask
    turn = sum(drawn.kept[0]) % len(mask.kept[0])
    return BlockMask(space.irreps, tuple((*kept[turn:], *kept[:turn]) for kept in mask.kept))


def shuffled_plan(spaces: Iterable[FeatureSpace], generator: Generator) -> PruningPlan:
    """Everything kept, in another order where the rules allow it."""
    masks = {}
    for space in spaces:
        if space.role != Role.HEADS and space.leaves_a_choice:
            orders = space.ranked({ir: generator.random(mul) for mul, ir in space.irreps})
            order = {ir: (-values).argsort(kind="stable").tolist() for ir, values in orders.items()}
            masks[space.name] = space.widened(BlockMask.keep(space.irreps, order))
    return PruningPlan(masks)
