"""How many channels of each irrep a target leaves in each group of spaces; which ones is decided elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase.data import chemical_symbols

from equiprune.adapters import ModelAdapter
from equiprune.blocks import BlockMask, FeatureSpace, Irrep, Irreps, PruningPlan, Role
from equiprune.errors import TargetError
from equiprune.pruning.targets import (
    BasisLmax,
    Channels,
    Correlation,
    EdgeLmax,
    Elements,
    Heads,
    HiddenChannels,
    HiddenIrreps,
    Interactions,
    Lmax,
    PerInteraction,
    RadialBasis,
    RadialWidth,
    Target,
)

Counts = Mapping[tuple[str, Irrep], int]
"""(group, irrep) to channels kept."""
_Mutable = dict[tuple[str, Irrep], int]

HIDDEN = (Role.NODE_FEATS, Role.EDGE_IRREPS, Role.A_BASIS)
"""Roles whose channels ``channels`` and budgets are about."""


def group_of(space: FeatureSpace) -> str:
    """The spaces that keep equally many channels of each irrep, whatever is asked for, or the space itself."""
    return space.size_group or space.name


@dataclass(frozen=True)
class PruningProblem:
    """What allocation looks at: the spaces and the cost, never the weights.

    ``heterogeneous`` allows models that upstream's constructor cannot build.
    """

    adapter: ModelAdapter
    architecture: Any
    spaces: tuple[FeatureSpace, ...]
    heterogeneous: bool = False

    def of(self, *roles: Role) -> list[FeatureSpace]:
        """Spaces with one of these roles, in order."""
        return [space for space in self.spaces if space.role in roles]

    def some(self, role: Role) -> list[FeatureSpace]:
        """The same; raises `TargetError` where the architecture has none that can be pruned."""
        spaces = self.of(role)
        if not spaces:
            raise TargetError(f"This model has no {role.value} that can be pruned. Leave out that target.")
        return spaces

    def full(self) -> Counts:
        """Everything kept."""
        return {(group_of(space), ir): mul for space in self.spaces for mul, ir in space.irreps}

    def tied(self, space: FeatureSpace) -> str:
        """What a target gives one number: upstream's own ties too, unless they may be broken."""
        return (not self.heterogeneous and space.stock_group) or group_of(space)


def elementwise_min(counts: Counts, wanted: Counts) -> Counts:
    """The smaller of both, where both say something."""
    return {key: min(count, wanted.get(key, count)) for key, count in counts.items()}


def wanted(model: PruningProblem, target: Target) -> Counts:
    """What a target leaves; it says nothing of groups it does not concern."""
    match target:
        case HiddenIrreps(irreps):
            return _hidden_irreps(model, irreps)
        case Lmax(lmax):
            _check_at_most(lmax, max(s.irreps.lmax for s in model.of(Role.NODE_FEATS)), "`lmax`", 0)
            return _without_l_above(lmax, model.of(Role.NODE_FEATS, Role.EDGE_IRREPS))
        case Channels(channels):
            most = max(mul for s in model.of(Role.NODE_FEATS) for mul, _ in s.irreps)
            _check_at_most(channels, most, "`channels`", 1)
            return {(group_of(s), ir): min(mul, channels) for s in model.of(*HIDDEN) for mul, ir in s.irreps}
        case EdgeLmax(lmax):
            return _edge_lmax(model, lmax)
        case BasisLmax(lmax):
            return _basis_lmax(model, lmax)
        case Correlation(order):
            return _correlation(model, order)
        case Interactions(count):
            return _interactions(model, count)
        case RadialWidth(widths):
            return _radial_widths(model, widths)
        case HiddenChannels(channels):
            spaces = model.some(Role.HIDDEN_CHANNELS)
            _check_at_most(channels, min(s.irreps.channels for s in spaces), "`hidden_channels`", 1)
            return {(group_of(s), ir): channels for s in spaces for _, ir in s.irreps}
        case RadialBasis(functions):
            [space] = model.some(Role.RADIAL_BASIS)
            _check_at_most(functions, space.irreps.channels, "`radial_basis`", 1)
            return {(group_of(space), space.irreps.entries[0][1]): functions}
    raise TypeError(f"unhandled target {target}")


def _check_at_most(given: int, largest: int, flag: str, smallest: int) -> None:
    if not smallest <= given <= largest:
        raise TargetError(f"{flag} {given} is not possible: this model allows {smallest} to {largest}.")


def _without_l_above(lmax: int, spaces: Sequence[FeatureSpace]) -> _Mutable:
    return {(group_of(space), ir): 0 for space in spaces for _, ir in space.irreps if ir.l > lmax}


def _hidden_irreps(model: PruningProblem, wanted_irreps: tuple[Irreps, ...]) -> Counts:
    spaces = model.of(Role.NODE_FEATS)
    irreps_of_space = _one_per_space(spaces, wanted_irreps)
    counts: _Mutable = {}
    for space, irreps in zip(spaces, irreps_of_space, strict=True):
        for mul, ir in irreps:
            if mul > space.irreps.mul(ir):
                raise TargetError(f"{mul}x{ir} is more than {space.name} has: it is '{space.irreps}'.")
        counts |= {(group_of(space), ir): irreps.mul(ir) for _, ir in space.irreps}
    left = {ir for irreps in irreps_of_space for _, ir in irreps}
    unfed = {(group_of(s), ir): 0 for s in model.of(Role.EDGE_IRREPS) for _, ir in s.irreps if ir not in left}
    return _tied_channels(model, spaces, irreps_of_space) | unfed | counts


def _one_per_space(spaces: Sequence[FeatureSpace], wanted_irreps: tuple[Irreps, ...]) -> tuple[Irreps, ...]:
    shown = ", ".join(str(space.irreps) for space in spaces)
    if len(wanted_irreps) == 1:
        for mul, ir in wanted_irreps[0]:
            most = max((space.irreps.mul(ir) for space in spaces), default=0)
            if mul > most:
                raise TargetError(f"{mul}x{ir} is more than the model has anywhere: its hidden irreps are {shown}.")
        return tuple(
            Irreps(tuple((min(m, space.irreps.mul(ir)), ir) for m, ir in wanted_irreps[0] if space.irreps.mul(ir)))
            for space in spaces
        )
    if len(wanted_irreps) != len(spaces):
        raise TargetError(f"`irreps` takes one list or {len(spaces)}, not {len(wanted_irreps)}. The model has {shown}.")
    return wanted_irreps


def _tied_channels(model: PruningProblem, spaces: Sequence[FeatureSpace], wanted_irreps: Sequence[Irreps]) -> _Mutable:
    """Where upstream has one number of channels for the whole model, everything else follows the hidden irreps."""
    if model.heterogeneous or not spaces[0].stock_group:
        return {}
    numbers = {mul for irreps in wanted_irreps for mul, _ in irreps}
    if not numbers:
        raise TargetError("`irreps` keeps nothing. Give at least the scalars, such as 64x0e.")
    if len(numbers) != 1:
        raise TargetError(
            f"{model.adapter.name}'s own constructor has one number of channels for all irreps, not "
            f"{', '.join(map(str, sorted(numbers)))}. Ask for one number, or add `heterogeneous`."
        )
    [number] = numbers
    followers = [space for space in model.of(*HIDDEN) if space.stock_group == spaces[0].stock_group]
    return {(group_of(s), ir): min(mul, number) for s in followers for mul, ir in s.irreps if s not in spaces}


def _radial_widths(model: PruningProblem, widths: tuple[int, ...]) -> Counts:
    groups: dict[str, list[FeatureSpace]] = {}
    for space in model.of(Role.RADIAL_WIDTH):
        groups.setdefault(model.tied(space), []).append(space)
    if len(widths) == 1:
        widths = widths * len(groups)
    if len(widths) != len(groups):
        raise TargetError(f"`radial_width` takes one number or {len(groups)}, not {len(widths)}.")
    counts = {}
    for width, members in zip(widths, groups.values(), strict=True):
        for space in members:
            _check_at_most(width, space.irreps.channels, "`radial_width`", 1)
            counts[group_of(space), space.irreps.entries[0][1]] = width
    return counts


def _each(spaces: Sequence[FeatureSpace], numbers: PerInteraction, flag: str) -> list[tuple[FeatureSpace, int]]:
    """Spaces with the number meant for each."""
    if isinstance(numbers, int):
        return [(space, numbers) for space in spaces]
    if len(numbers) != len(spaces):
        raise TargetError(f"{flag} takes one number or {len(spaces)}, not {len(numbers)}.")
    return list(zip(spaces, numbers, strict=True))


def _edge_lmax(model: PruningProblem, lmax: PerInteraction) -> Counts:
    counts: _Mutable = {}
    for space, most in _each(model.some(Role.EDGE_ATTRS), lmax, "`edge_lmax`"):
        _check_at_most(most, space.irreps.lmax, "`edge_lmax`", 0)
        counts |= _without_l_above(most, [space])
    for spaces, most in _each_basis(model, lmax, "`edge_lmax`"):
        counts |= _without_l_above(max(most, *(space.least_lmax for space in spaces)), spaces)
    return counts


def _basis_lmax(model: PruningProblem, lmax: PerInteraction) -> Counts:
    model.some(Role.A_BASIS)
    counts: _Mutable = {}
    for spaces, most in _each_basis(model, lmax, "`basis_lmax`"):
        least, largest = max(s.least_lmax for s in spaces), min(s.irreps.lmax for s in spaces)
        _check_at_most(most, largest, "`basis_lmax`", least)
        counts |= _without_l_above(most, spaces)
    return counts


def _each_basis(model: PruningProblem, lmax: PerInteraction, flag: str) -> list[tuple[list[FeatureSpace], int]]:
    """Interactions as the spaces where messages are summed and multiplied, with the number meant for each."""
    by_interaction: dict[str, list[FeatureSpace]] = {}
    for space in model.of(Role.A_BASIS):
        by_interaction.setdefault(space.name.rpartition(".")[2], []).append(space)
    firsts = [spaces[-1] for spaces in by_interaction.values()]
    return [(by_interaction[s.name.rpartition(".")[2]], most) for s, most in _each(firsts, lmax, flag)]


def _correlation(model: PruningProblem, order: PerInteraction) -> Counts:
    counts = {}
    for space, most in _each(model.some(Role.CORRELATION), order, "`correlation`"):
        _check_at_most(most, space.irreps.channels, "`correlation`", 1)
        counts[group_of(space), space.irreps.entries[0][1]] = most
    return counts


def _interactions(model: PruningProblem, count: int) -> Counts:
    [space] = model.some(Role.INTERACTIONS)
    _check_at_most(count, space.irreps.channels, "`interactions`", 1)
    if count == space.irreps.channels:
        return {}
    counts = {(group_of(space), space.irreps.entries[0][1]): count}
    # In a chain the features after the last step are read by nothing but the readout, which takes scalars.
    return counts | _without_l_above(0, [model.of(Role.NODE_FEATS)[count]]) if space.ordered else counts


def named(model: PruningProblem, target: Elements | Heads) -> PruningPlan:
    """The plan that keeps what a target names, in its order."""
    match target:
        case Elements(numbers):
            names = [chemical_symbols[z] for z in model.architecture.elements]
            return _subset(model, Role.ELEMENTS, [chemical_symbols[z] for z in numbers], names)
        case Heads(names_wanted):
            return _subset(model, Role.HEADS, list(names_wanted), list(model.architecture.heads))


def _subset(model: PruningProblem, role: Role, wanted_names: list[str], known: list[str]) -> PruningPlan:
    if not known:
        raise TargetError(
            f"{', '.join(wanted_names)} cannot be chosen: this model has a single one of its {role.value}. "
            "Leave it out."
        )
    for name in wanted_names:
        if name not in known:
            raise TargetError(f"The model does not know {name}. It knows {', '.join(known)}.")
    if not wanted_names or len(set(wanted_names)) != len(wanted_names):
        raise TargetError(f"Name each of the {role.value} to keep exactly once, at least one.")
    [space] = model.some(role)
    kept = {space.irreps.entries[0][1]: [known.index(name) for name in wanted_names]}
    return PruningPlan({space.name: BlockMask.keep(space.irreps, kept)})


def check_named(model: PruningProblem, targets: Sequence[Target], explicit: PruningPlan) -> None:
    """Elements and heads are kept exactly as named, in that order, whatever else a plan says."""
    for target in targets:
        if isinstance(target, Elements | Heads):
            for name, mask in named(model, target).masks.items():
                if explicit.masks[name] != mask:
                    raise TargetError(
                        f"The plan and the other targets disagree on which {name} to keep. Leave out one."
                    )


def rounded(model: PruningProblem, counts: Counts, round_to: int, explicit: PruningPlan) -> Counts:
    """Hidden multiplicities as multiples of ``round_to``, of the channels that ``explicit`` leaves."""
    available: _Mutable = {}
    for space in model.of(*HIDDEN):
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
        kept = {ir: explicit.mask(space).of(ir)[: counts[group_of(space), ir]] for _, ir in space.irreps}
        masks[space.name] = BlockMask.keep(space.irreps, kept)
    return PruningPlan(masks)
