"""Targets of hidden features: how many channels of which l."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equiprune.blocks import FeatureSpace, Irrep, Irreps, Role
from equiprune.errors import TargetError
from equiprune.files.settings import kind
from equiprune.pruning.counts import Counts, PruningProblem, check_at_most, group_of, without_l_above
from equiprune.pruning.targets.target import Target


@kind(
    "hidden_irreps",
    "HiddenIrreps",
    write=lambda target: {"irreps": ",".join(map(str, target.irreps))},
    read=lambda given: HiddenIrreps.parse(given["irreps"]),
)
@dataclass(frozen=True)
class HiddenIrreps(Target):
    """These multiplicities in every hidden space, or one irreps per space (embedding first).

    Given once, entries that a space does not have are skipped there, so that ``64x0e+32x1e`` fits scalar-only first
    and last spaces.

    >>> HiddenIrreps.parse("64x0e+32x1e").irreps[0].channels
    96
    """

    irreps: tuple[Irreps, ...]

    @classmethod
    def parse(cls, text: str) -> HiddenIrreps:
        """Read ``"64x0e+32x1e"`` or a comma-separated list of such."""
        return cls(tuple(Irreps.parse(part) for part in text.split(",")))

    def counts(self, model: PruningProblem) -> Counts:
        spaces = model.of(Role.NODE_FEATS)
        irreps_of_space = _one_per_space(spaces, self.irreps)
        counts: dict[tuple[str, Irrep], int] = {}
        for space, irreps in zip(spaces, irreps_of_space, strict=True):
            for mul, ir in irreps:
                if mul > space.irreps.mul(ir):
                    raise TargetError(f"{mul}x{ir} is more than {space.name} has: it is '{space.irreps}'.")
            counts |= {(group_of(space), ir): irreps.mul(ir) for _, ir in space.irreps}
        left = {ir for irreps in irreps_of_space for _, ir in irreps}
        unfed = {(group_of(s), ir): 0 for s in model.of(Role.EDGE_IRREPS) for _, ir in s.irreps if ir not in left}
        return {**_tied_channels(model, spaces, irreps_of_space), **unfed, **counts}


@kind("lmax", "Lmax")
@dataclass(frozen=True)
class Lmax(Target):
    """Hidden features up to this l."""

    lmax: int

    def counts(self, model: PruningProblem) -> Counts:
        check_at_most(self.lmax, max(s.irreps.lmax for s in model.of(Role.NODE_FEATS)), "`lmax`", 0)
        return without_l_above(self.lmax, model.of(Role.NODE_FEATS, Role.EDGE_IRREPS))


@kind("channels", "Channels")
@dataclass(frozen=True)
class Channels(Target):
    """At most this many channels of every hidden irrep."""

    channels: int

    def counts(self, model: PruningProblem) -> Counts:
        most = max(mul for s in model.of(Role.NODE_FEATS) for mul, _ in s.irreps)
        check_at_most(self.channels, most, "`channels`", 1)
        return {(group_of(s), ir): min(mul, self.channels) for s in model.hidden for mul, ir in s.irreps}


@kind("hidden_channels", "HiddenChannels")
@dataclass(frozen=True)
class HiddenChannels(Target):
    """This many channels inside every convolution (eSCN's ``hidden_channels``)."""

    channels: int

    def counts(self, model: PruningProblem) -> Counts:
        spaces = model.some(Role.HIDDEN_CHANNELS)
        check_at_most(self.channels, min(s.irreps.channels for s in spaces), "`hidden_channels`", 1)
        return {(group_of(s), ir): self.channels for s in spaces for _, ir in s.irreps}


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


def _tied_channels(model: PruningProblem, spaces: Sequence[FeatureSpace], wanted_irreps: Sequence[Irreps]) -> Counts:
    """Counts of everything that follows the hidden irreps where upstream has one number of channels."""
    if model.heterogeneous or not spaces[0].upstream_group:
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
    followers = [space for space in model.hidden if space.upstream_group == spaces[0].upstream_group]
    return {(group_of(s), ir): min(mul, number) for s in followers for mul, ir in s.irreps if s not in spaces}
