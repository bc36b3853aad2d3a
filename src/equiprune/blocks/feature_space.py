"""A feature space: a named place in a model where irreps features live."""

from dataclasses import dataclass
from enum import StrEnum

from equiprune.blocks.irreps import Irrep, Irreps


class Role(StrEnum):
    """What a space is for; targets name roles, never architectures."""

    NODE_FEATS = "node_feats"
    """Hidden node features between interactions (MACE and SevenNet: ``hidden_irreps``)."""
    EDGE_IRREPS = "edge_irreps"
    """Node features entering the convolution, after their own linear map."""
    A_BASIS = "a_basis"
    """Messages summed over neighbours, before they are multiplied with each other (MACE's A-basis)."""
    EDGE_ATTRS = "edge_attrs"
    """Spherical harmonics of the edges; its channels are the degrees l up to ``max_ell``."""
    RADIAL_WIDTH = "radial_width"
    """Hidden neurons of the network that turns distances into convolution weights."""
    HIDDEN_CHANNELS = "hidden_channels"
    """Channels inside a convolution, between its two linear maps (eSCN: ``hidden_channels``)."""
    POINTWISE = "pointwise"
    """Channels of the network that works on values at points of a sphere (eSCN)."""
    RADIAL_BASIS = "radial_basis"
    """Radial (Bessel) functions."""
    CORRELATION = "correlation"
    """Orders of the product of messages: channel n is the product of n + 1 of them (MACE: ``correlation``)."""
    INTERACTIONS = "interactions"
    """Message-passing steps, each by what it adds to the energy."""
    READOUT = "readout"
    """Hidden neurons between the last features and the energy."""
    ELEMENTS = "elements"
    """Chemical species the model knows."""
    HEADS = "heads"
    """Levels of theory a multi-head model knows (SevenNet: modalities)."""


class Site(StrEnum):
    """Where one row of the feature tensor sits."""

    ATOM = "atom"
    EDGE = "edge"
    NONE = "none"
    """Never seen as a tensor of its own (elements, heads)."""


class ChannelTying(StrEnum):
    """Whether the kept channels of the irreps of one space may differ."""

    INDEPENDENT = "independent"
    ACROSS_L = "across_l"
    """One channel set for all l (MACE's A-basis, eSCN's sphere channels)."""


@dataclass(frozen=True)
class FeatureSpace:
    """A named space, its irreps in the unpruned model, and the rules its masks obey.

    Attributes:
        name: unique in the model, e.g. ``node_feats.1``.
        irreps: of the unpruned model, e.g. ``128x0e+64x1o``.
        role: what a target calls it.
        site: rows are atoms or edges.
        tying: one channel set for all l, or one per l.
        size_group: spaces of one group keep equally many channels of each irrep that they have in common, whichever
            they are (a constructor with a single argument for two layers); empty for none.
        stock_group: in models that upstream's own constructor builds, spaces of one such group keep one number of
            channels, the same for every irrep they keep; empty for none. A plan may break this where the adapter can
            assemble the model all the same; what is lost are tools that call the constructor.
        minimum: fewest channels of 0e that the architecture can be built with (for spaces that have 0e).
        least_lmax: irreps up to this l are never removed entirely.
        top_down: irreps are removed entirely from the highest l downwards only.
        always: the first so many channels are kept by every plan.
        within: (space, irrep, channel) without which this space is not there: a layer, or a degree of the features
            (channel None for any).
        ordered: channels can only go from the last one backwards (highest l, highest order, last interaction).
        zero_preserving: the activation that produces the space maps zero to zero, so that a channel with zero
            incoming weights is zero.

    >>> space = FeatureSpace("node_feats.1", Irreps.parse("128x0e+64x1o"), Role.NODE_FEATS)
    >>> space.irreps.dim
    320
    """

    name: str
    irreps: Irreps
    role: Role
    site: Site = Site.ATOM
    tying: ChannelTying = ChannelTying.INDEPENDENT
    size_group: str = ""
    stock_group: str = ""
    minimum: int = 1
    least_lmax: int = 0
    top_down: bool = False
    always: int = 0
    within: tuple[tuple[str, Irrep, int | None], ...] = ()
    ordered: bool = False
    zero_preserving: bool = True

    @property
    def scored(self) -> bool:
        """True where an importance score decides: features whose channels can go in any order."""
        return self.role in _SCORED and not self.ordered


_SCORED = frozenset(
    (
        Role.NODE_FEATS,
        Role.EDGE_IRREPS,
        Role.A_BASIS,
        Role.RADIAL_WIDTH,
        Role.HIDDEN_CHANNELS,
        Role.POINTWISE,
        Role.RADIAL_BASIS,
        Role.INTERACTIONS,
        Role.READOUT,
    )
)
