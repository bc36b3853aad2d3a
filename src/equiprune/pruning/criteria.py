"""Four criteria of importance: the ablation of arXiv 2605.08885.

`Taylor` (its eq. 3) and `Activation` look at structures (see `equiprune.pruning.calibration`), `Magnitude` and `Random`
only at weights or at a seed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from equiprune.files.settings import kind

OUTPUTS = ("energy", "forces")
"""Outputs that features have gradients of; of forces only where they are an output of their own."""


class DataCriterion(ABC):
    """A criterion reduced from features and their gradients."""

    name: str
    outputs: ClassVar[tuple[str, ...]] = ("energy",)
    """The `OUTPUTS` whose gradients count where a model has them."""

    @abstractmethod
    def per_site(self, feature: Tensor, gradient: Tensor) -> Tensor:
        """Score of each channel at each site from one irrep's ``(sites, mul, m)``; returns ``(sites, mul)``."""


@kind("taylor", "Taylor")
@dataclass(frozen=True)
class Taylor(DataCriterion):
    """I(c, l) = E[ sum over atoms of | sum over m of h * dE/dh | ], eV (arXiv 2605.08885, eq. 3).

    To first order, the change in energy when the block is removed. Invariant under rotation: the sum over m is a dot
    product of two vectors that rotate together.

    Where forces are an output of their own (eSCN), the energy hardly depends on what matters to them alone: their
    projection on random directions is scored alike, and both count (see `RunningScores.of_batch`). `TaylorEnergy` and
    `TaylorForces` are each alone.
    """

    name = "taylor"
    outputs: ClassVar[tuple[str, ...]] = OUTPUTS

    def per_site(self, feature: Tensor, gradient: Tensor) -> Tensor:
        return (feature * gradient).sum(-1).abs()


@kind("taylor-energy", "TaylorEnergy")
@dataclass(frozen=True)
class TaylorEnergy(Taylor):
    """`Taylor` of the energy alone."""

    name = "taylor-energy"
    outputs = ("energy",)


@kind("taylor-forces", "TaylorForces")
@dataclass(frozen=True)
class TaylorForces(Taylor):
    """`Taylor` of forces alone, for models whose forces are an output of their own."""

    name = "taylor-forces"
    outputs = ("forces",)


@kind("activation", "Activation")
@dataclass(frozen=True)
class Activation(DataCriterion):
    """E[ sum over atoms of || h || ], in the feature's own unit: how large a block is, whatever it does."""

    name = "activation"

    def per_site(self, feature: Tensor, gradient: Tensor) -> Tensor:
        return feature.norm(dim=-1)


@kind("magnitude", "Magnitude")
@dataclass(frozen=True)
class Magnitude:
    """Root of the summed squares of the effective weights that produce a block; needs no data."""

    name = "magnitude"


@kind("random", "Random")
@dataclass(frozen=True)
class Random:
    """Uniform numbers from a seed: the baseline."""

    seed: int = 0
    name = "random"


Criterion = DataCriterion | Magnitude | Random
