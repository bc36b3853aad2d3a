"""Targets of pruning: one frozen value per choice. Targets combine; each can only remove.

Parsing of command-line words is here too, beside the value it makes.
"""

from equiprune.pruning.targets.hidden import Channels, HiddenChannels, HiddenIrreps, Lmax
from equiprune.pruning.targets.interactions import (
    BasisLmax,
    Correlation,
    EdgeLmax,
    Interactions,
    RadialBasis,
    RadialWidth,
)
from equiprune.pruning.targets.named import Elements, Heads
from equiprune.pruning.targets.target import Draft, PerInteraction, Target
from equiprune.pruning.targets.whole import FromPlan, Lossless, Parameters

__all__ = [
    "BasisLmax",
    "Channels",
    "Correlation",
    "Draft",
    "EdgeLmax",
    "Elements",
    "FromPlan",
    "Heads",
    "HiddenChannels",
    "HiddenIrreps",
    "Interactions",
    "Lmax",
    "Lossless",
    "Parameters",
    "PerInteraction",
    "RadialBasis",
    "RadialWidth",
    "Target",
]
