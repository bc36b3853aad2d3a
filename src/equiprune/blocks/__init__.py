"""Features as pure data: blocks, spaces, masks, plans and layouts, without a model and without a backend.

Every architecture is a set of *feature spaces* and a table that says which axis of which weight each space indexes.
A *block* is one channel of one irrep in one space: 2l + 1 numbers that rotate among themselves. Removing blocks is
the only thing pruning does.

Shape words used throughout: ``atoms``, ``edges``, ``structures``, ``mul`` (channels of one irrep), ``m`` = 2l + 1. A
feature tensor has shape ``(sites, sum over irreps of mul * m)``, channels outermost (e3nn's ``mul_ir``).
"""

from equiprune.blocks.feature_space import FeatureSpace, Role, Site, widened_together
from equiprune.blocks.irreps import Irrep, Irreps
from equiprune.blocks.layout import Axis, Path, Segment, WeightLayout
from equiprune.blocks.linear_map import Labelled, LinearMap
from equiprune.blocks.mask import BlockMask
from equiprune.blocks.plan import PruningPlan, resized
from equiprune.blocks.rules import (
    KeepsDegrees,
    KeepsFirst,
    KeepsOrder,
    KeepsScalars,
    OneChannelSet,
    PrefixOnly,
    Rule,
    SameCounts,
    SameCountsUpstream,
    TopDown,
)
from equiprune.blocks.size_fields import (
    Entries,
    HighestL,
    IrrepsText,
    NumberOfChannels,
    NumberOfChannelsPerL,
    SizeField,
)
from equiprune.blocks.slicing import kept_positions, slice_weight

__all__ = [
    "Axis",
    "BlockMask",
    "Entries",
    "FeatureSpace",
    "HighestL",
    "Irrep",
    "Irreps",
    "IrrepsText",
    "KeepsDegrees",
    "KeepsFirst",
    "KeepsOrder",
    "KeepsScalars",
    "Labelled",
    "LinearMap",
    "NumberOfChannels",
    "NumberOfChannelsPerL",
    "OneChannelSet",
    "Path",
    "PrefixOnly",
    "PruningPlan",
    "Role",
    "Rule",
    "SameCounts",
    "SameCountsUpstream",
    "Segment",
    "Site",
    "SizeField",
    "TopDown",
    "WeightLayout",
    "kept_positions",
    "resized",
    "slice_weight",
    "widened_together",
]
