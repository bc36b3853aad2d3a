"""Slicing one weight by a plan: the same function for every weight of every architecture.

The effective weight (stored number times ``Path.scale``) is what survives. The layouts of the unpruned and of the
pruned model are both declared, so nothing here guesses a fan-in.
"""

import torch
from torch import Tensor

from equiprune.blocks.layout import Axis, Path, WeightLayout, axis_size, spans
from equiprune.blocks.plan import PruningPlan
from equiprune.errors import PlanError


def slice_weight(weight: Tensor, parent: WeightLayout, child: WeightLayout, plan: PruningPlan) -> Tensor:
    """The part of a weight that a plan keeps, rescaled so that the effective weight is unchanged.

    Args:
        weight: stored tensor of shape ``parent.shape``.
        parent: layout of this weight in the unpruned model.
        child: its layout in the pruned model.
        plan: which blocks are kept.

    Returns:
        A tensor of shape ``child.shape``.

    >>> from equiprune.blocks import BlockMask, Irrep, Irreps, PruningPlan, Segment, WeightLayout
    >>> def layout(n):
    ...     x, y = Segment("x", Irrep(0, 1), n), Segment.fixed(1)
    ...     return WeightLayout.dense((x,), (y,), scale=n**-0.5)
    >>> plan = PruningPlan({"x": BlockMask(Irreps.scalars(4), ((3,),))})
    >>> slice_weight(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), layout(4), layout(1), plan)  # 4 / sqrt(4) * sqrt(1)
    tensor([[2.]])
    """
    sources, dense = {path.key: path for path in parent.paths}, parent.split(weight)
    return child.join({path.key: _slice_path(dense[path.key], sources[path.key], path, plan) for path in child.paths})


def _slice_path(dense: Tensor, parent: Path, child: Path, plan: PruningPlan) -> Tensor:
    if any(segment.is_filler for axis in child.axes for segment in axis):
        return dense.new_zeros(child.shape)
    for dim, (old, new) in enumerate(zip(parent.axes, child.axes, strict=True)):
        kept = kept_positions(old, new, plan)
        if kept != tuple(range(axis_size(old))):
            dense = dense.index_select(dim, torch.tensor(kept, device=dense.device))
    return dense if parent.scale == child.scale else dense * (parent.scale / child.scale)


def kept_positions(parent: Axis, child: Axis, plan: PruningPlan) -> tuple[int, ...]:
    """Positions along the parent's axis that make up the child's axis, in the child's order."""
    places = {segment.identity: where for segment, where in spans(parent)}
    positions: list[int] = []
    for segment in child:
        where = places[segment.identity]
        kept = plan.kept(segment.space, segment.irrep, where.stop - where.start)
        if len(kept) != segment.mul:
            raise PlanError(
                f"The adapter's smaller architecture keeps {segment.mul} channels of {segment.irrep} in "
                f"'{segment.space}', the plan {len(kept)}. This is a defect of the adapter."
            )
        positions += [where.start + channel for channel in kept]
    return tuple(positions)
