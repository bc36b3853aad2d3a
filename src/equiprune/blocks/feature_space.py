"""A feature space: a named place in a model where irreps features live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from equiprune.blocks.irreps import Irrep, Irreps
from equiprune.blocks.mask import BlockMask
from equiprune.blocks.rules import KeepsScalars, Rule, SameCounts, SameCountsUpstream, Scores, with_at_least
from equiprune.blocks.size_fields import SizeField


@dataclass(frozen=True)
class Role:
    """Purpose of a space. Targets name roles, never architectures; an architecture may have roles of its own.

    Attributes:
        name: what reports call it.
        hidden: its channels are those of hidden features, which `Channels` and rounding are about.
        budgeted: a budget may spend on its channels.
        scored: an importance score decides which channels stay.
    """

    name: str
    hidden: bool = False
    budgeted: bool = False
    scored: bool = True

    NODE_FEATS: ClassVar[Role]
    EDGE_IRREPS: ClassVar[Role]
    A_BASIS: ClassVar[Role]
    EDGE_ATTRS: ClassVar[Role]
    RADIAL_WIDTH: ClassVar[Role]
    HIDDEN_CHANNELS: ClassVar[Role]
    POINTWISE: ClassVar[Role]
    RADIAL_BASIS: ClassVar[Role]
    CORRELATION: ClassVar[Role]
    INTERACTIONS: ClassVar[Role]
    READOUT: ClassVar[Role]
    ELEMENTS: ClassVar[Role]
    HEADS: ClassVar[Role]

    def __str__(self) -> str:
        return self.name


Role.NODE_FEATS = Role("node_feats", hidden=True, budgeted=True)
"""Hidden node features between interactions (MACE and SevenNet: ``hidden_irreps``)."""
Role.EDGE_IRREPS = Role("edge_irreps", hidden=True, budgeted=True)
"""Node features entering the convolution, after their own linear map."""
Role.A_BASIS = Role("a_basis", hidden=True, budgeted=True)
"""Messages summed over neighbours, before they are multiplied with each other (MACE's A-basis)."""
Role.EDGE_ATTRS = Role("edge_attrs", scored=False)
"""Spherical harmonics of the edges; its channels are the degrees l up to ``max_ell``."""
Role.RADIAL_WIDTH = Role("radial_width")
"""Hidden neurons of the network that turns distances into convolution weights."""
Role.HIDDEN_CHANNELS = Role("hidden_channels", budgeted=True)
"""Channels inside a convolution, between its two linear maps (eSCN: ``hidden_channels``)."""
Role.POINTWISE = Role("pointwise")
"""Channels of the network that works on values at points of a sphere (eSCN)."""
Role.RADIAL_BASIS = Role("radial_basis")
"""Radial (Bessel) functions."""
Role.CORRELATION = Role("correlation", scored=False)
"""Orders of the product of messages: channel n is the product of n + 1 of them (MACE: ``correlation``)."""
Role.INTERACTIONS = Role("interactions")
"""Message-passing steps, each by what it adds to the energy."""
Role.READOUT = Role("readout")
"""Hidden neurons between the last features and the energy."""
Role.ELEMENTS = Role("elements", scored=False)
"""Chemical species the model knows."""
Role.HEADS = Role("heads", scored=False)
"""Levels of theory a multi-head model knows (SevenNet: modalities)."""


class Site(StrEnum):
    """Place of one row of the feature tensor."""

    ATOM = "atom"
    EDGE = "edge"
    NONE = "none"
    """Never seen as a tensor of its own (elements, heads)."""


@dataclass(frozen=True)
class FeatureSpace:
    """A named space, its irreps in the unpruned model, and the rules its masks obey.

    Attributes:
        name: unique in the model, e.g. ``node_feats.1``.
        irreps: of the unpruned model, e.g. ``128x0e+64x1o``.
        role: what a target calls it.
        site: rows are atoms or edges.
        rules: what no plan breaks (see `equiprune.blocks.rules`). A space without a `KeepsScalars` gets one.
        within: (space, irrep, channel) without which this space is not there: a layer, or a degree of the features
            (channel None for any).
        size_in: fields of the architecture that say how large the space is; `ModelAdapter.shrink` writes them.
        zero_preserving: the activation that produces the space maps zero to zero, so that a channel with zero
            incoming weights is zero.
        normalised: a layer divides by what all channels together are, so that none is without effect, not even one that
            is zero or that nothing reads.

    >>> space = FeatureSpace("node_feats.1", Irreps.parse("128x0e+64x1o"), Role.NODE_FEATS)
    >>> space.irreps.dim, str(space.smallest().kept_irreps)
    (320, '1x0e')
    """

    name: str
    irreps: Irreps
    role: Role
    site: Site = Site.ATOM
    rules: tuple[Rule, ...] = ()
    within: tuple[tuple[str, Irrep, int | None], ...] = ()
    size_in: tuple[SizeField, ...] = field(default=())
    zero_preserving: bool = True
    normalised: bool = False

    def __post_init__(self) -> None:
        if not any(isinstance(rule, KeepsScalars) for rule in self.rules):
            object.__setattr__(self, "rules", (KeepsScalars(), *self.rules))

    @property
    def size_group(self) -> str:
        """Name of the group of spaces that keep equally many channels of each irrep as this one; empty if none must."""
        return next((rule.group for rule in self.rules if isinstance(rule, SameCounts)), "")

    @property
    def upstream_group(self) -> str:
        """The spaces that upstream's constructor gives one number of channels; empty if none."""
        return next((rule.group for rule in self.rules if isinstance(rule, SameCountsUpstream)), "")

    @property
    def leaves_a_choice(self) -> bool:
        """True where channels can go in any order."""
        return all(rule.leaves_a_choice for rule in self.rules)

    @property
    def joins_irreps(self) -> bool:
        """True where there is one number of channels for all irreps that are kept."""
        return any(rule.joins_irreps for rule in self.rules)

    @property
    def scored(self) -> bool:
        """True where an importance score decides: features whose channels can go in any order."""
        return self.role.scored and self.leaves_a_choice

    def ranked(self, scores: Scores) -> Scores:
        """Scores by which the best channels, as many of each irrep as there may be, obey the rules.

        Rules that join irreps have the last word, so that what others say of one irrep counts for all.
        """
        for rule in sorted(self.rules, key=lambda rule: rule.joins_irreps):
            scores = rule.ranked(scores)
        return scores

    def widened(self, mask: BlockMask) -> BlockMask:
        """An allowed mask that keeps what this one does, and no more than the rules ask for."""
        for _ in range(self.irreps.channels + 1):
            wider = mask
            for rule in self.rules:
                wider = rule.widened(wider)
            if wider == mask:
                break
            mask = wider
        return mask

    def smallest(self) -> BlockMask:
        """An allowed mask that keeps no more than the rules ask for."""
        return self.widened(BlockMask.keep(self.irreps, {}))


def widened_together(spaces: Iterable[FeatureSpace], masks: Mapping[str, BlockMask]) -> dict[str, BlockMask]:
    """Allowed masks of several spaces that keep what these do: each by its own rules, and those of a group alike.

    Args:
        spaces: of the model.
        masks: by space; the others stay without one.
    """
    members = [space for space in spaces if space.name in masks]
    masks = dict(masks)
    while True:
        wider = {space.name: space.widened(masks[space.name]) for space in members}
        counts: dict[tuple[str, Irrep], int] = {}
        for space in members:
            for _, ir in space.irreps if space.size_group else ():
                key = space.size_group, ir
                counts[key] = max(counts.get(key, 0), len(wider[space.name].of(ir)))
        for space in members:
            if space.size_group:
                own = {ir: counts[space.size_group, ir] for _, ir in space.irreps}
                wider[space.name] = with_at_least(wider[space.name], own)
        if wider == masks:
            return masks
        masks = wider
