"""Masks: which blocks of a space are kept, and in which order.

A mask keeps an ordered subset of the channels of each irrep. Most masks keep the original order; the order matters
where it has a meaning, as for chemical elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equiprune.blocks.irreps import Irrep, Irreps
from equiprune.errors import PlanError


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
            if kept and (len(set(kept)) != len(kept) or min(kept) < 0 or max(kept) >= mul):
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
        """The rest of this mask inside a space that ``outer`` has already pruned."""
        position = {ir: {c: i for i, c in enumerate(outer.of(ir))} for _, ir in outer.irreps}
        return BlockMask.keep(
            outer.kept_irreps,
            {ir: [position[ir][c] for c in outer.of(ir) if c in set(self.of(ir))] for _, ir in outer.kept_irreps},
        )
