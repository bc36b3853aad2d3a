"""Numbers of channels of each irrep that groups of spaces keep; which ones is decided elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equiprune.adapters import ModelAdapter
from equiprune.blocks import BlockMask, FeatureSpace, Irrep, PruningPlan, Role
from equiprune.errors import TargetError

Counts = Mapping[tuple[str, Irrep], int]
"""(group, irrep) to channels kept."""


def group_of(space: FeatureSpace) -> str:
    """The spaces that keep equally many channels of each irrep, whatever is asked for, or the space itself."""
    return space.size_group or space.name


@dataclass(frozen=True)
class PruningProblem:
    """A model as allocation sees it: the spaces and the cost, never the weights.

    ``heterogeneous`` allows models that upstream's constructor cannot build.
    """

    adapter: ModelAdapter
    architecture: Any
    spaces: tuple[FeatureSpace, ...]
    heterogeneous: bool = False

    def of(self, *roles: Role) -> list[FeatureSpace]:
        """Spaces with one of these roles, in order."""
        return [space for space in self.spaces if space.role in roles]

    @property
    def hidden(self) -> list[FeatureSpace]:
        """Spaces of hidden features, in order."""
        return [space for space in self.spaces if space.role.hidden]

    def some(self, role: Role) -> list[FeatureSpace]:
        """The same; raises `TargetError` where the architecture has none that can be pruned."""
        spaces = self.of(role)
        if not spaces:
            raise TargetError(f"This model has no {role.name} that can be pruned. Leave out that target.")
        return spaces

    def full(self) -> Counts:
        """Everything kept."""
        return {(group_of(space), ir): mul for space in self.spaces for mul, ir in space.irreps}

    def tied(self, space: FeatureSpace) -> str:
        """The group that a target gives one number: upstream's own ties too, unless they may be broken."""
        return (not self.heterogeneous and space.upstream_group) or group_of(space)


def elementwise_min(counts: Counts, wanted: Counts) -> Counts:
    """The smaller of both, where both say something."""
    return {key: min(count, wanted.get(key, count)) for key, count in counts.items()}


def check_at_most(given: int, largest: int, argument: str, smallest: int) -> None:
    """Raise `TargetError` naming the argument unless a number is from ``smallest`` to ``largest``."""
    if not smallest <= given <= largest:
        raise TargetError(f"{argument} {given} is not possible: this model allows {smallest} to {largest}.")


def without_l_above(lmax: int, spaces: Sequence[FeatureSpace]) -> dict[tuple[str, Irrep], int]:
    """No channels of higher irreps."""
    return {(group_of(space), ir): 0 for space in spaces for _, ir in space.irreps if ir.l > lmax}


def rounded(model: PruningProblem, counts: Counts, round_to: int, explicit: PruningPlan) -> Counts:
    """Hidden multiplicities as multiples of ``round_to``, of the channels that ``explicit`` leaves."""
    available: dict[tuple[str, Irrep], int] = {}
    for space in model.hidden:
        for _, ir in space.irreps:
            there = len(explicit.mask(space).of(ir))
            available[group_of(space), ir] = min(there, available.get((group_of(space), ir), there))
    return {key: _round(n, available[key], round_to) if key in available else n for key, n in counts.items()}


def _round(count: int, available: int, round_to: int) -> int:
    if count >= round_to:
        return count // round_to * round_to
    return round_to if 2 * count >= round_to and available >= round_to else 0


def placeholder_plan(spaces: Sequence[FeatureSpace], counts: Counts, explicit: PruningPlan) -> PruningPlan:
    """Any plan with these counts: cost depends on nothing else."""
    masks = {}
    for space in spaces:
        mask, group = explicit.mask(space), group_of(space)
        kept = {ir: mask.of(ir)[: counts[group, ir]] for _, ir in space.irreps}
        masks[space.name] = BlockMask.keep(space.irreps, kept)
    return PruningPlan(masks)
