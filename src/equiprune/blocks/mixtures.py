"""Mixtures: channels of a smaller model that are sums of its parent's, instead of some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equiprune.blocks.irreps import Irrep
from equiprune.blocks.layout import Axis, Path, Segment, WeightLayout, spans
from equiprune.blocks.plan import PruningPlan
from equiprune.blocks.slicing import kept_positions


@dataclass(frozen=True)
class Mixture:
    """Channels of one irrep as mixtures of the parent's.

    Attributes:
        into: (parent's channels, channels): what each is made of.
        back: (channels, parent's channels): the parent's as far as the mixtures know them.
    """

    into: Tensor
    back: Tensor


Mixtures = Mapping[tuple[str, Irrep], Mixture]
"""By space and irrep; all others keep the channels of a plan."""


def mixed_weight(
    weight: Tensor, parent: WeightLayout, child: WeightLayout, plan: PruningPlan, mixtures: Mixtures
) -> Tensor:
    """The weight of a smaller model some of whose channels are mixtures; the others are those of a plan.

    What makes such channels is multiplied by `Mixture.into`, what reads them by `Mixture.back`, so that the function is
    the same wherever the mixtures know all of the parent's channels.

    Args:
        weight: stored tensor of shape ``parent.shape``.
        parent: layout of this weight in the parent.
        child: its layout in the smaller model.
        plan: which blocks of other spaces are kept.
        mixtures: of spaces that linear maps alone make and read.

    >>> scalar = Irrep(0, 1)
    >>> def layout(n):
    ...     return WeightLayout.dense((Segment("x", scalar, n),), (Segment.fixed(1),))  # reads x
    >>> half = torch.full((2, 1), 0.5)
    >>> mixtures = {("x", scalar): Mixture(half, 2 * half.T)}
    >>> mixed_weight(torch.tensor([[1.0], [3.0]]), layout(2), layout(1), PruningPlan.nothing(), mixtures)
    tensor([[4.]])
    """
    sources, dense = {path.key: path for path in parent.paths}, parent.split(weight)
    blocks = {p.key: _mixed_path(dense[p.key], sources[p.key], p, plan, mixtures) for p in child.paths}
    return child.join(blocks)


def reads_or_makes(layout: WeightLayout, mixtures: Mixtures) -> bool:
    """True for a weight that a mixture changes."""
    segments = (segment for path in layout.paths for axis in path.axes for segment in axis)
    return any((segment.space, segment.irrep) in mixtures for segment in segments)


def _mixed_path(dense: Tensor, parent: Path, child: Path, plan: PruningPlan, mixtures: Mixtures) -> Tensor:
    if any(segment.is_filler for axis in child.axes for segment in axis):
        return dense.new_zeros(child.shape)
    for dim, (old, new) in enumerate(zip(parent.axes, child.axes, strict=True)):
        dense = mixed_axis(dense, dim, old, new, plan, mixtures, made=child.produces(dim))
    return dense * (parent.scale / child.scale)


def mixed_axis(
    dense: Tensor, dim: int, parent: Axis, child: Axis, plan: PruningPlan, mixtures: Mixtures, *, made: bool
) -> Tensor:
    """One axis of a weight, or of features: mixtures where there are some, else the channels of the plan."""
    places = {segment.identity: (segment, where) for segment, where in spans(parent)}
    pieces = []
    for segment in child:
        whole, where = places[segment.identity]
        piece = dense.narrow(dim, where.start, where.stop - where.start)
        pieces.append(_mixed_segment(piece, dim, whole, segment, plan, mixtures, made))
    return torch.cat(pieces, dim)


def _mixed_segment(
    piece: Tensor, dim: int, parent: Segment, child: Segment, plan: PruningPlan, mixtures: Mixtures, made: bool
) -> Tensor:
    found = mixtures.get((child.space, child.irrep))
    if found is None:
        kept = kept_positions((parent,), (child,), plan)
        return piece.index_select(dim, torch.tensor(kept, dtype=torch.long, device=piece.device))
    matrix = found.into if made else found.back.T
    return torch.tensordot(piece, matrix.to(piece), dims=([dim], [0])).movedim(-1, dim)
