"""Rules: what the masks of a feature space obey, as values.

A rule says why a mask is not allowed, how a mask becomes an allowed one by keeping more, and, where scores choose, how
they must be read so that what they choose is allowed. A mask that keeps everything breaks no rule. An architecture may
bring rules of its own: nothing in equiprune names one of these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from equiprune.blocks.irreps import Irrep
from equiprune.blocks.mask import BlockMask

Scores = Mapping[Irrep, np.ndarray]
"""Importance (channels,) by irrep: the higher, the rather kept."""

_SCALAR = Irrep(0, 1)


class Rule(ABC):
    """Restriction of the masks of a space."""

    leaves_a_choice: ClassVar[bool] = True
    """False where the number of channels already says which are kept, so that no score is asked."""
    joins_irreps: ClassVar[bool] = False
    """True where there is one number of channels for all irreps that are kept."""

    @abstractmethod
    def broken_by(self, mask: BlockMask) -> str:
        """The reason why a mask is not allowed, as the rest of a sentence after the space's name; empty when it is."""

    def widened(self, mask: BlockMask) -> BlockMask:
        """The smallest allowed mask that keeps what this one does; where several are, any of them."""
        return mask

    def ranked(self, scores: Scores) -> Scores:
        """Scores whose best channels, as many of each irrep as there may be, are an allowed mask."""
        return scores


@dataclass(frozen=True)
class GroupRule(Rule):
    """A rule between the spaces of one group; it says nothing of one mask alone.

    Attributes:
        group: name, unique in the model.
    """

    group: str

    def broken_by(self, mask: BlockMask) -> str:
        return ""


class SameCounts(GroupRule):
    """Spaces of one group keep equally many channels of each irrep that they have in common, whichever they are.

    A constructor with a single argument for two layers makes such a group. `PruningPlan.check` and `widened_together`
    look at it.
    """


class SameCountsUpstream(GroupRule):
    """Spaces of one group keep one number of channels, the same for every irrep, in what upstream's constructor builds.

    A plan may break it where the adapter can assemble the model all the same; what is lost are tools that call the
    constructor.
    """


@dataclass(frozen=True)
class KeepsScalars(Rule):
    """At least so many channels of 0e are kept, where a space has them. Every space has this rule, with 1 unless said.

    Attributes:
        fewest: what the architecture can be built with.
    """

    fewest: int = 1

    def broken_by(self, mask: BlockMask) -> str:
        kept = len(mask.of(_SCALAR))
        if not mask.irreps.mul(_SCALAR) or kept >= self.fewest:
            return ""
        return f"would keep {kept} channels of 0e; this architecture needs at least {self.fewest}"

    def widened(self, mask: BlockMask) -> BlockMask:
        return with_at_least(mask, {_SCALAR: self.fewest}) if mask.irreps.mul(_SCALAR) else mask


@dataclass(frozen=True)
class KeepsDegrees(Rule):
    """Irreps up to some l are never removed entirely.

    Attributes:
        lmax: highest l that stays.
    """

    lmax: int

    def broken_by(self, mask: BlockMask) -> str:
        lost = [str(ir) for ir in self._lost(mask)]
        return f"would lose all of {', '.join(lost)}; this architecture needs l = 0 to {self.lmax}" if lost else ""

    def widened(self, mask: BlockMask) -> BlockMask:
        return _with_one_of_each(mask, self._lost(mask))

    def _lost(self, mask: BlockMask) -> list[Irrep]:
        return [ir for _, ir in mask.irreps if ir.l <= self.lmax and not mask.of(ir)]


@dataclass(frozen=True)
class TopDown(Rule):
    """Irreps are removed entirely from the highest l downwards only."""

    def broken_by(self, mask: BlockMask) -> str:
        gaps = any(not lower and higher for lower, higher in pairwise(mask.kept))
        return f"loses irreps from the highest l downwards, not to '{mask.kept_irreps}'" if gaps else ""

    def widened(self, mask: BlockMask) -> BlockMask:
        last = max((number for number, kept in enumerate(mask.kept) if kept), default=0)
        gaps = [ir for (_, ir), kept in zip(mask.irreps.entries[:last], mask.kept, strict=False) if not kept]
        return _with_one_of_each(mask, gaps)


@dataclass(frozen=True)
class OneChannelSet(Rule):
    """Irreps that are kept at all keep the same channels (MACE's A-basis, eSCN's sphere channels)."""

    joins_irreps = True

    def broken_by(self, mask: BlockMask) -> str:
        several = len(set(filter(None, mask.kept))) > 1
        return "has one channel set for all l; the plan keeps different ones" if several else ""

    def widened(self, mask: BlockMask) -> BlockMask:
        if not self.broken_by(mask):
            return mask
        shared = sorted({channel for kept in mask.kept for channel in kept})
        return BlockMask(mask.irreps, tuple(tuple(shared) if kept else () for kept in mask.kept))

    def ranked(self, scores: Scores) -> Scores:
        return dict.fromkeys(scores, np.sum(list(scores.values()), axis=0))


@dataclass(frozen=True)
class KeepsFirst(Rule):
    """The first so many channels of 0e are kept by every plan.

    Attributes:
        count: how many.
    """

    count: int

    def broken_by(self, mask: BlockMask) -> str:
        kept = set(range(self.count)) <= set(mask.of(_SCALAR))
        return "" if kept else f"would lose one of its first {self.count}, which every model needs"

    def widened(self, mask: BlockMask) -> BlockMask:
        lost = [channel for channel in range(self.count) if channel not in mask.of(_SCALAR)]
        return _with(mask, {_SCALAR: sorted([*mask.of(_SCALAR), *lost])}) if lost else mask

    def ranked(self, scores: Scores) -> Scores:
        first = np.arange(len(scores[_SCALAR])) < self.count
        return {**scores, _SCALAR: np.where(first, np.inf, scores[_SCALAR])}


@dataclass(frozen=True)
class KeepsOrder(Rule):
    """Kept channels stay in the order of the model, because the order is part of the function (layers)."""

    def broken_by(self, mask: BlockMask) -> str:
        return "" if mask == self.widened(mask) else f"cannot be put in another order {[list(k) for k in mask.kept]}"

    def widened(self, mask: BlockMask) -> BlockMask:
        return BlockMask(mask.irreps, tuple(tuple(sorted(kept)) for kept in mask.kept))


@dataclass(frozen=True)
class PrefixOnly(Rule):
    """Channels can only go from the last one backwards: highest l, highest order, last interaction."""

    leaves_a_choice = False

    def broken_by(self, mask: BlockMask) -> str:
        if any(mask.kept) and mask == self.widened(mask):
            return ""
        channels = [list(kept) for kept in mask.kept]
        return f"can only be removed from its last channel backwards, not to '{mask.kept_irreps}' (channels {channels})"

    def widened(self, mask: BlockMask) -> BlockMask:
        last = max((number for number, kept in enumerate(mask.kept) if kept), default=0)
        muls = [mul for mul, _ in mask.irreps]
        whole = [tuple(range(mul)) for mul in muls[:last]]
        part = tuple(range(max(mask.kept[last], default=0) + 1))
        return BlockMask(mask.irreps, (*whole, part, *((),) * (len(muls) - last - 1)))

    def ranked(self, scores: Scores) -> Scores:
        return {ir: -np.arange(float(len(values))) for ir, values in scores.items()}


def with_at_least(mask: BlockMask, counts: Mapping[Irrep, int]) -> BlockMask:
    """The mask, with the lowest of its removed channels back until it keeps so many of each irrep.

    >>> from equiprune.blocks import Irreps
    >>> mask = BlockMask.keep(Irreps.parse("4x0e"), {Irrep(0, 1): [3]})
    >>> with_at_least(mask, {Irrep(0, 1): 3}).kept
    ((0, 1, 3),)
    """
    changed = {}
    for mul, ir in mask.irreps:
        kept = mask.of(ir)
        if (missing := min(mul, counts.get(ir, 0)) - len(kept)) > 0:
            spare = [channel for channel in range(mul) if channel not in kept]
            changed[ir] = sorted([*kept, *spare[:missing]])
    return _with(mask, changed) if changed else mask


def _with_one_of_each(mask: BlockMask, irreps: list[Irrep]) -> BlockMask:
    """The mask with a channel of each of these irreps: one that another irrep keeps, so that shared sets stay."""
    kept = next(filter(None, mask.kept), (0,))
    own = {ir: next((c for c in kept if c < mask.irreps.mul(ir)), 0) for ir in irreps}
    return _with(mask, {ir: [channel] for ir, channel in own.items()}) if irreps else mask


def _with(mask: BlockMask, changed: Mapping[Irrep, list[int]]) -> BlockMask:
    return BlockMask.keep(mask.irreps, {ir: changed.get(ir, mask.of(ir)) for _, ir in mask.irreps})
