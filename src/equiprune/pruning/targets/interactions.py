"""Targets of message passing: edges, products of messages, radial networks, and how many steps there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equiprune.blocks import FeatureSpace, Irrep, Role
from equiprune.errors import TargetError
from equiprune.files.settings import kind
from equiprune.pruning.counts import Counts, PruningProblem, check_at_most, group_of, without_l_above
from equiprune.pruning.targets.target import PerInteraction, PerInteractionTarget, Target, integers


@kind("edge_lmax", "EdgeLmax")
@dataclass(frozen=True)
class EdgeLmax(PerInteractionTarget):
    """Spherical harmonics of the edges up to this l, and messages of that l at most where they are multiplied (MACE).

    >>> EdgeLmax.parse("3,2").lmax
    (3, 2)
    """

    argument = "`edge_lmax`"
    lmax: PerInteraction

    def counts(self, model: PruningProblem) -> Counts:
        counts: dict[tuple[str, Irrep], int] = {}
        for space, most in _each(model.some(Role.EDGE_ATTRS), self.lmax, self.argument):
            check_at_most(most, space.irreps.lmax, self.argument, 0)
            counts |= without_l_above(most, [space])
        for spaces, most in _each_basis(model, self.lmax, self.argument):
            counts |= without_l_above(max(most, _least_lmax(spaces)), spaces)
        return counts


@kind("basis_lmax", "BasisLmax")
@dataclass(frozen=True)
class BasisLmax(PerInteractionTarget):
    """Messages entering the product basis up to this l (MACE's A-basis)."""

    argument = "`basis_lmax`"
    lmax: PerInteraction

    def counts(self, model: PruningProblem) -> Counts:
        model.some(Role.A_BASIS)
        counts: dict[tuple[str, Irrep], int] = {}
        for spaces, most in _each_basis(model, self.lmax, self.argument):
            check_at_most(most, min(s.irreps.lmax for s in spaces), self.argument, _least_lmax(spaces))
            counts |= without_l_above(most, spaces)
        return counts


@kind("correlation", "Correlation")
@dataclass(frozen=True)
class Correlation(PerInteractionTarget):
    """Products of at most this many messages (MACE's ``correlation``)."""

    argument = "`correlation`"
    order: PerInteraction

    def counts(self, model: PruningProblem) -> Counts:
        counts = {}
        for space, most in _each(model.some(Role.CORRELATION), self.order, self.argument):
            check_at_most(most, space.irreps.channels, self.argument, 1)
            counts[group_of(space), space.irreps.entries[0][1]] = most
        return counts


@kind("interactions", "Interactions")
@dataclass(frozen=True)
class Interactions(Target):
    """This many message-passing steps.

    The first ones, without the last one's features of l > 0, which nothing reads any more. Where steps add to what was
    there and any can go (eSCN), the first one and the best of the others.
    """

    count: int

    def counts(self, model: PruningProblem) -> Counts:
        [space] = model.some(Role.INTERACTIONS)
        check_at_most(self.count, space.irreps.channels, "`interactions`", 1)
        if self.count == space.irreps.channels:
            return {}
        counts = {(group_of(space), space.irreps.entries[0][1]): self.count}
        if space.leaves_a_choice:
            return counts
        # In a chain the features after the last step are read by nothing but the readout, which takes scalars.
        return counts | without_l_above(0, [model.of(Role.NODE_FEATS)[self.count]])


@kind("radial_width", "RadialWidth")
@dataclass(frozen=True)
class RadialWidth(Target):
    """Hidden neurons of the radial network, one number per hidden layer or one for all."""

    widths: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> RadialWidth:
        """Read ``"40,24"``."""
        return cls(tuple(integers(text, "`radial_width`")))

    def counts(self, model: PruningProblem) -> Counts:
        groups: dict[str, list[FeatureSpace]] = {}
        for space in model.some(Role.RADIAL_WIDTH):
            groups.setdefault(model.tied(space), []).append(space)
        widths = self.widths * len(groups) if len(self.widths) == 1 else self.widths
        if len(widths) != len(groups):
            raise TargetError(f"`radial_width` takes one number or {len(groups)}, not {len(widths)}.")
        counts = {}
        for width, members in zip(widths, groups.values(), strict=True):
            for space in members:
                check_at_most(width, space.irreps.channels, "`radial_width`", 1)
                counts[group_of(space), space.irreps.entries[0][1]] = width
        return counts


@kind("radial_basis", "RadialBasis")
@dataclass(frozen=True)
class RadialBasis(Target):
    """Number of radial functions."""

    functions: int

    def counts(self, model: PruningProblem) -> Counts:
        [space] = model.some(Role.RADIAL_BASIS)
        check_at_most(self.functions, space.irreps.channels, "`radial_basis`", 1)
        return {(group_of(space), space.irreps.entries[0][1]): self.functions}


def _each(spaces: Sequence[FeatureSpace], numbers: PerInteraction, argument: str) -> list[tuple[FeatureSpace, int]]:
    """Spaces with the number meant for each."""
    if isinstance(numbers, int):
        return [(space, numbers) for space in spaces]
    if len(numbers) != len(spaces):
        raise TargetError(f"{argument} takes one number or {len(spaces)}, not {len(numbers)}.")
    return list(zip(spaces, numbers, strict=True))


def _each_basis(model: PruningProblem, lmax: PerInteraction, argument: str) -> list[tuple[list[FeatureSpace], int]]:
    """Interactions as the spaces where messages are summed and multiplied, with the number meant for each."""
    by_interaction: dict[str, list[FeatureSpace]] = {}
    for space in model.of(Role.A_BASIS):
        by_interaction.setdefault(space.name.rpartition(".")[2], []).append(space)
    firsts = [spaces[-1] for spaces in by_interaction.values()]
    return [(by_interaction[s.name.rpartition(".")[2]], most) for s, most in _each(firsts, lmax, argument)]


def _least_lmax(spaces: Sequence[FeatureSpace]) -> int:
    """The lowest lmax that the rules of these spaces allow."""
    return max(space.smallest().kept_irreps.lmax for space in spaces)
