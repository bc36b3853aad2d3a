"""Masks and plans: which blocks of which space are kept, and in which order.

A mask keeps an ordered subset of the channels of each irrep. Most masks keep the original order; the order matters
where it has a meaning, as for chemical elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from equiprune.blocks.feature_space import ChannelTying, FeatureSpace
from equiprune.blocks.irreps import Irrep, Irreps
from equiprune.errors import PlanError, TargetError


@dataclass(frozen=True)
class BlockMask:
    """The channels kept of one space.

    Attributes:
        irreps: of the unpruned space.
        kept: for each entry of ``irreps``, the kept channel numbers in their new order.

    >>> mask = BlockMask.keep(Irreps.parse("3x0e+2x1o"), {Irrep.parse("0e"): [0, 2], Irrep.parse("1o"): [1]})
    >>> str(mask.kept_irreps), mask.columns()
    ('2x0e+1x1o', (0, 2, 6, 7, 8))
    """

    irreps: Irreps
    kept: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for (mul, ir), kept in zip(self.irreps, self.kept, strict=True):
            if len(set(kept)) != len(kept) or any(not 0 <= c < mul for c in kept):
                raise PlanError(f"Channels {list(kept)} of {ir} are not distinct numbers from 0 to {mul - 1}.")

    @classmethod
    def keep(cls, irreps: Irreps, kept: Mapping[Irrep, Iterable[int]]) -> BlockMask:
        """Keep these channels; irreps not named are removed entirely."""
        unknown = kept.keys() - {ir for _, ir in irreps}
        if unknown:
            raise PlanError(f"'{irreps}' has no {', '.join(sorted(map(str, unknown)))} to keep channels of.")
        return cls(irreps, tuple(tuple(kept.get(ir, ())) for _, ir in irreps))

    @classmethod
    def all(cls, irreps: Irreps) -> BlockMask:
        """Keep everything."""
        return cls(irreps, tuple(tuple(range(mul)) for mul, _ in irreps))

    @property
    def keeps_all(self) -> bool:
        """True when this mask changes nothing, order included."""
        return self == BlockMask.all(self.irreps)

    @property
    def kept_irreps(self) -> Irreps:
        """Irreps of the pruned space; emptied entries are gone."""
        return Irreps(tuple((len(k), ir) for (_, ir), k in zip(self.irreps, self.kept, strict=True) if k))

    def of(self, irrep: Irrep) -> tuple[int, ...]:
        """Kept channels of one irrep."""
        return next((k for (_, ir), k in zip(self.irreps, self.kept, strict=True) if ir == irrep), ())

    def columns(self) -> tuple[int, ...]:
        """Columns of the feature tensor that survive, in their new order."""
        columns: list[int] = []
        for (_, ir, span), kept in zip(self.irreps.slices(), self.kept, strict=True):
            columns += [span.start + c * ir.dim + m for c in kept for m in range(ir.dim)]
        return tuple(columns)

    def select(self, features: Tensor) -> Tensor:
        """Remove the other blocks: ``(..., irreps.dim)`` to ``(..., kept_irreps.dim)``."""
        return features[..., list(self.columns())]

    def insert_zeros(self, features: Tensor) -> Tensor:
        """The way back, zeros where blocks were: ``insert_zeros(select(x)) == x * as_tensor(x)``."""
        full = features.new_zeros(*features.shape[:-1], self.irreps.dim)
        full[..., list(self.columns())] = features
        return full

    def as_tensor(self, like: Tensor) -> Tensor:
        """Ones on kept columns, zeros elsewhere, in the dtype and on the device of ``like``."""
        ones = torch.zeros(self.irreps.dim, dtype=like.dtype, device=like.device)
        ones[list(self.columns())] = 1
        return ones

    def then(self, inner: BlockMask) -> BlockMask:
        """This mask followed by a mask of the pruned space, as one mask of the unpruned space."""
        if inner.irreps != self.kept_irreps:
            raise PlanError(f"A mask of '{inner.irreps}' cannot follow one that leaves '{self.kept_irreps}'.")
        return BlockMask.keep(self.irreps, {ir: [self.of(ir)[c] for c in inner.of(ir)] for _, ir in inner.irreps})

    def __and__(self, other: BlockMask) -> BlockMask:
        """Channels kept by both, in this mask's order."""
        if other.irreps != self.irreps:
            raise PlanError(f"Masks of '{self.irreps}' and '{other.irreps}' belong to different spaces.")
        return BlockMask(
            self.irreps,
            tuple(tuple(c for c in a if c in set(b)) for a, b in zip(self.kept, other.kept, strict=True)),
        )

    def within(self, outer: BlockMask) -> BlockMask:
        """What is left of this mask inside a space that ``outer`` has already pruned."""
        position = {ir: {c: i for i, c in enumerate(outer.of(ir))} for _, ir in outer.irreps}
        return BlockMask.keep(
            outer.kept_irreps,
            {ir: [position[ir][c] for c in outer.of(ir) if c in set(self.of(ir))] for _, ir in outer.kept_irreps},
        )


def _is_a_beginning(mask: BlockMask) -> bool:
    """Whether the kept channels are the first ones of the space, in order."""
    everything = [(ir, c) for mul, ir in mask.irreps for c in range(mul)]
    kept = [(ir, c) for (_, ir), channels in zip(mask.irreps, mask.kept, strict=True) for c in channels]
    return bool(kept) and kept == everything[: len(kept)]


@dataclass(frozen=True)
class PruningPlan:
    """One mask per space; spaces without a mask keep everything.

    Two plans of the same model combine as ``a & b`` (kept by both); a plan of the pruned model is appended with
    ``a.then(b)``. The laws: ``prune(prune(m, a), b) == prune(m, a.then(b))`` and
    ``prune(prune(m, a), b.within(a)) == prune(m, a & b)``.
    """

    masks: Mapping[str, BlockMask]

    def __post_init__(self) -> None:
        changed = {name: mask for name, mask in sorted(self.masks.items()) if not mask.keeps_all}
        object.__setattr__(self, "masks", MappingProxyType(changed))

    @classmethod
    def nothing(cls) -> PruningPlan:
        """The plan that keeps everything."""
        return cls({})

    @property
    def keeps_all(self) -> bool:
        """True when nothing is removed or reordered."""
        return not self.masks

    def mask(self, space: FeatureSpace) -> BlockMask:
        """The mask of a space."""
        return self.masks.get(space.name) or BlockMask.all(space.irreps)

    def kept(self, space: str, irrep: Irrep, mul: int) -> tuple[int, ...]:
        """Kept channels of one irrep of a space that has ``mul`` of them."""
        mask = self.masks.get(space)
        return mask.of(irrep) if mask is not None else tuple(range(mul))

    def __and__(self, other: PruningPlan) -> PruningPlan:
        both = self.masks.keys() & other.masks.keys()
        return PruningPlan({**self.masks, **other.masks, **{n: self.masks[n] & other.masks[n] for n in both}})

    def then(self, inner: PruningPlan) -> PruningPlan:
        """This plan followed by a plan of the pruned model."""
        both = self.masks.keys() & inner.masks.keys()
        return PruningPlan({**self.masks, **inner.masks, **{n: self.masks[n].then(inner.masks[n]) for n in both}})

    def within(self, outer: PruningPlan) -> PruningPlan:
        """This plan, restated for the model that ``outer`` has already pruned."""
        return PruningPlan(
            {n: mask.within(outer.masks[n]) if n in outer.masks else mask for n, mask in self.masks.items()}
        )

    def check(self, spaces: Iterable[FeatureSpace]) -> None:
        """Raise `PlanError` unless every mask fits its space and the rules the spaces declare."""
        spaces = tuple(spaces)
        unknown = self.masks.keys() - {space.name for space in spaces}
        if unknown:
            raise PlanError(f"The model has no space {sorted(unknown)}. It has {[s.name for s in spaces]}.")
        for space in spaces:
            self._check_space(space)
        self._check_size_groups(spaces)

    def _check_space(self, space: FeatureSpace) -> None:
        mask = self.mask(space)
        if mask.irreps != space.irreps:
            raise PlanError(f"The plan's mask of {space.name} is for '{mask.irreps}', the model has '{space.irreps}'.")
        scalars = len(mask.of(Irrep(0, 1)))
        if space.irreps.mul(Irrep(0, 1)) and scalars < space.minimum:
            raise PlanError(
                f"{space.name} would keep {scalars} channels of 0e; this architecture needs at least {space.minimum}."
            )
        if space.tying is ChannelTying.ACROSS_L and len(set(filter(None, mask.kept))) > 1:
            raise PlanError(f"{space.name} has one channel set for all l; the plan keeps different ones.")
        emptied = [str(ir) for (_, ir), kept in zip(mask.irreps, mask.kept, strict=True) if not kept]
        needed = [ir for ir in emptied if Irrep.parse(ir).l <= space.least_lmax and space.least_lmax > 0]
        if needed:
            raise PlanError(
                f"{space.name} would lose all of {', '.join(needed)}; this architecture needs l = 0 to "
                f"{space.least_lmax}."
            )
        if not set(range(space.always)) <= set(mask.of(Irrep(0, 1))):
            raise PlanError(f"{space.name} would lose one of its first {space.always}, which every model needs.")
        if space.top_down and any(not a and b for a, b in pairwise(mask.kept)):
            raise PlanError(f"{space.name} loses irreps from the highest l downwards, not to '{mask.kept_irreps}'.")
        if space.ordered and not _is_a_beginning(mask):
            raise PlanError(
                f"{space.name} can only be removed from its last channel backwards, not to '{mask.kept_irreps}' "
                f"(channels {[list(kept) for kept in mask.kept]})."
            )

    def _check_size_groups(self, spaces: tuple[FeatureSpace, ...]) -> None:
        groups: dict[str, list[FeatureSpace]] = {}
        for space in spaces:
            if all(self._keeps(*block) for block in space.within):
                groups.setdefault(space.size_group, []).append(space)
        groups.pop("", None)
        for members in groups.values():
            kept = {(ir, len(self.mask(space).of(ir))) for space in members for _, ir in space.irreps}
            if len(kept) > len({ir for ir, _ in kept}):
                counts = {space.name: str(self.mask(space).kept_irreps) for space in members}
                raise PlanError(f"These spaces must keep equally many channels of each irrep: {counts}.")

    def _keeps(self, space: str, irrep: Irrep, channel: int | None) -> bool:
        """Whether a channel of a space is kept, or any."""
        kept = self.masks[space].of(irrep) if space in self.masks else None
        return kept is None or (bool(kept) if channel is None else channel in kept)

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` reads it back."""
        return {
            name: {
                "irreps": str(mask.irreps),
                "kept": {str(ir): list(kept) for (_, ir), kept in zip(mask.irreps, mask.kept, strict=True)},
            }
            for name, mask in self.masks.items()
        }

    @classmethod
    def from_json(cls, value: Any) -> PruningPlan:
        """Read what `to_json` wrote; raises `PlanError` when it is something else."""
        try:
            return cls(
                {
                    name: BlockMask.keep(
                        Irreps.parse(entry["irreps"]),
                        {Irrep.parse(ir): [index(c) for c in kept] for ir, kept in entry["kept"].items()},
                    )
                    for name, entry in value.items()
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError, TargetError) as error:
            raise PlanError(
                "This is not a pruning plan. Expected {space: {irreps: text, kept: {irrep: [channels]}}}."
            ) from error
