"""Random plans that obey every rule that feature spaces declare: what tests prune by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from numpy.random import Generator

from equiprune.blocks import BlockMask, ChannelTying, FeatureSpace, Irrep, Irreps, PruningPlan, Role
from equiprune.potentials.potential import Potential
from equiprune.pruning.counts import group_of

PRUNABLE = frozenset(Role) - {Role.HEADS}
"""Roles that `random_plan` touches unless told otherwise."""


def random_plan(
    model: Potential | Iterable[FeatureSpace], generator: Generator, *, roles: Collection[Role] = PRUNABLE
) -> PruningPlan:
    """A random plan that obeys every rule the spaces declare.

    Counts differ between spaces and irreps, and so do the kept channels of spaces that must keep equally many. Whole
    irreps are dropped now and then, spherical harmonics from the highest l down; elements also change their order.

    Args:
        model: a potential, or the spaces of one.
        generator: draws everything.
        roles: touch only spaces of these roles, and those that must keep as many channels as one of them.

    >>> from numpy.random import default_rng
    >>> space = FeatureSpace("node_feats.0", Irreps.parse("4x0e+3x1o"), Role.NODE_FEATS)
    >>> plan = random_plan([space], default_rng(1))
    >>> plan.check([space]), str(plan.mask(space).kept_irreps)
    (None, '2x0e+2x1o')
    """
    groups: dict[str, list[FeatureSpace]] = {}
    for space in model.spaces if isinstance(model, Potential) else model:
        groups.setdefault(group_of(space), []).append(space)
    masks = {}
    for members in groups.values():
        if any(space.role in roles for space in members):
            counts = _random_counts(members, generator)
            for space in members:
                masks[space.name] = _random_mask(space, counts, generator, shuffled=space.role is Role.ELEMENTS)
    return PruningPlan(masks)


def _random_counts(members: Sequence[FeatureSpace], generator: Generator) -> dict[Irrep, int]:
    least = max(max(space.minimum, space.always) for space in members)
    if members[0].ordered:
        irreps = members[0].irreps
        return _a_beginning(irreps, int(generator.integers(least, irreps.channels + 1)))
    muls = {ir: mul for space in members for mul, ir in space.irreps}
    if any(space.tying is ChannelTying.ACROSS_L for space in members):
        most = min(muls.values())
        counts = dict.fromkeys(muls, int(generator.integers(min(least, most), most + 1)))
    else:
        counts = {ir: int(generator.integers(min(least, mul), mul + 1)) for ir, mul in muls.items()}
    needed = max(space.least_lmax for space in members)
    if any(space.top_down for space in members):
        left = int(generator.integers(needed, 2 * max(ir.l for ir in counts) + 1))
        dropped = [ir for ir in counts if ir.l > left]
    else:
        dropped = [ir for ir in list(counts)[1:] if ir.l > needed and generator.random() < 0.2]
    return counts | dict.fromkeys(dropped, 0)


def _a_beginning(irreps: Irreps, channels: int) -> dict[Irrep, int]:
    """How many of each irrep the first so many channels are."""
    counts = {}
    for mul, ir in irreps:
        counts[ir] = min(mul, channels)
        channels -= counts[ir]
    return counts


def _random_mask(
    space: FeatureSpace, counts: Mapping[Irrep, int], generator: Generator, *, shuffled: bool
) -> BlockMask:
    if space.ordered:
        return BlockMask.keep(space.irreps, {ir: range(count) for ir, count in counts.items()})
    orders = {ir: _order(mul, space.always, generator) for mul, ir in space.irreps}
    if space.tying is ChannelTying.ACROSS_L:
        orders = dict.fromkeys(orders, next(iter(orders.values())))
    chosen = {ir: order[: counts[ir]] for ir, order in orders.items()}
    return BlockMask.keep(space.irreps, {ir: kept if shuffled else sorted(kept) for ir, kept in chosen.items()})


def _order(mul: int, always: int, generator: Generator) -> list[int]:
    """All channels, those that every plan keeps first."""
    return [*range(always), *(always + generator.permutation(mul - always)).tolist()]


def shuffled_plan(spaces: Iterable[FeatureSpace], generator: Generator) -> PruningPlan:
    """Everything kept, in another order."""
    return PruningPlan(
        {
            space.name: _random_mask(space, {ir: mul for mul, ir in space.irreps}, generator, shuffled=True)
            for space in spaces
            if space.role in PRUNABLE and not space.ordered
        }
    )
