"""Linear maps: weights that mix channels, by where their inputs and outputs can be seen.

A linear map of irreps mixes the channels of each irrep by one matrix, whatever m is. That matrix is the solution of a
least-squares problem wherever it is known what should come out for what goes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equiprune.blocks.irreps import Irrep
from equiprune.blocks.layout import Axis, Path, WeightLayout, axis_size
from equiprune.blocks.mixtures import Mixtures, mixed_axis
from equiprune.blocks.plan import PruningPlan

Labelled = tuple[tuple[Irrep, Axis], ...]
"""An irreps with the origin of each channel: one axis per entry, in the order of the feature tensor."""


@dataclass(frozen=True)
class LinearMap:
    """A submodule that is a linear map of irreps: its first argument and its result are feature tensors.

    Attributes:
        module: name of the submodule.
        weight: name of its weight.
        inputs, outputs: its irreps.
        added_to: submodules evaluated before it, whose results are added to its own.
        onward: the map that alone reads what this one makes, where the channels between them mean nothing of their own.
    """

    module: str
    weight: str
    inputs: Labelled
    outputs: Labelled
    added_to: tuple[str, ...] = ()
    onward: LinearMap | None = None

    @classmethod
    def of_module(cls, module: str, inputs: Labelled, outputs: Labelled, *added_to: str) -> LinearMap:
        """A map whose weight is the submodule's own, as in ``o3.Linear``."""
        return cls(module, f"{module}.weight", inputs, outputs, added_to)

    @property
    def last(self) -> LinearMap:
        """The map whose results mean something: itself, or the one onward."""
        return self.onward or self


@dataclass(frozen=True)
class Mixing:
    """The matrix of one output entry: all that is linear into the channels of one irrep.

    Attributes:
        columns: of the entry in the feature tensor of the outputs.
        dim: numbers of a channel, 2l + 1.
        sources: the paths of the weight that lead here, each with the columns of its inputs.
    """

    columns: slice
    dim: int
    sources: tuple[tuple[Path, slice], ...]

    def inputs(self, features: Tensor) -> Tensor:
        """Input channels one after another as rows (sites * m, channels)."""
        return torch.cat([_rows(features[:, columns], self.dim) for _, columns in self.sources], dim=1)

    def outputs(self, features: Tensor) -> Tensor:
        """Output channels as rows (sites * m, channels)."""
        return _rows(features[:, self.columns], self.dim)

    def changed(self, blocks: dict[str, Tensor], matrix: Tensor) -> dict[str, Tensor]:
        """The stored blocks of a weight with ``matrix`` (inputs, outputs) added to what the weight does."""
        pieces = matrix.split([path.shape[0] for path, _ in self.sources])
        return blocks | {
            path.key: blocks[path.key] + piece / path.scale
            for (path, _), piece in zip(self.sources, pieces, strict=True)
        }


def _rows(features: Tensor, dim: int) -> Tensor:
    """(sites, channels * m) as (sites * m, channels)."""
    return features.reshape(len(features), -1, dim).transpose(1, 2).reshape(-1, features.shape[1] // dim)


def mixings(linear: LinearMap, layout: WeightLayout) -> Iterator[Mixing]:
    """The matrices of a linear map, one for each output entry that the weight leads to.

    >>> from equiprune.blocks import Segment
    >>> x, y = Segment("x", Irrep(1, -1), 4), Segment("y", Irrep(1, -1), 2)
    >>> weight = WeightLayout((Path("1o", ((x,), (y,)), 0.5),))
    >>> linear = LinearMap("up", "up.weight", ((Irrep(1, -1), (x,)),), ((Irrep(1, -1), (y,)),))
    >>> [(mixing.dim, mixing.columns, mixing.sources[0][1]) for mixing in mixings(linear, weight)]
    [(3, slice(0, 6, None), slice(0, 12, None))]
    """
    for ir, axis, columns in spread(linear.outputs):
        sources = tuple(
            (path, where)
            for path in layout.paths
            for ir_in, axis_in, where in spread(linear.inputs)
            if ir_in == ir and path.axes == (axis_in, axis)
        )
        if sources:
            yield Mixing(columns, ir.dim, sources)


def spread(entries: Labelled) -> Iterator[tuple[Irrep, Axis, slice]]:
    """Each entry, and its columns in the feature tensor."""
    start = 0
    for ir, axis in entries:
        stop = start + axis_size(axis) * ir.dim
        yield ir, axis, slice(start, stop)
        start = stop


def inherited(features: Tensor, parent: Labelled, child: Labelled, plan: PruningPlan, mixtures: Mixtures) -> Tensor:
    """Features (sites, columns) of a parent as a smaller model has them: channels of a plan, and mixtures.

    >>> from equiprune.blocks import BlockMask, Irreps, Segment
    >>> def entries(mul):
    ...     return ((Irrep(1, -1), (Segment("x", Irrep(1, -1), mul),)),)
    >>> plan = PruningPlan({"x": BlockMask(Irreps.parse("3x1o"), ((2,),))})
    >>> inherited(torch.arange(9.0)[None], entries(3), entries(1), plan, {})
    tensor([[6., 7., 8.]])
    """
    pieces = []
    for ir, axis in child:
        wanted = {segment.identity for segment in axis}
        whole, where = next((a, w) for i, a, w in spread(parent) if i == ir and wanted <= _identities(a))
        channels = features[:, where].reshape(len(features), -1, ir.dim)
        pieces.append(mixed_axis(channels, 1, whole, axis, plan, mixtures, made=True).flatten(1))
    return torch.cat(pieces, dim=1)


def applied(linear: LinearMap, layout: WeightLayout, weight: Tensor, features: Tensor) -> Tensor:
    """Features (sites, columns of the outputs) that a linear map makes of its inputs, without its bias."""
    result, blocks = features.new_zeros(len(features), size(linear.outputs)), layout.split(weight)
    for mixing in mixings(linear, layout):
        matrices = torch.cat([blocks[path.key] * path.scale for path, _ in mixing.sources])
        rows = mixing.inputs(features) @ matrices
        result[:, mixing.columns] = rows.reshape(len(features), mixing.dim, -1).transpose(1, 2).flatten(1)
    return result


def matrix(linear: LinearMap, layout: WeightLayout, weight: Tensor) -> Tensor:
    """Effective weight of a linear map of scalars as one matrix (inputs, outputs)."""
    result = weight.new_zeros(size(linear.inputs), size(linear.outputs))
    blocks = layout.split(weight)
    for mixing in mixings(linear, layout):
        for path, rows in mixing.sources:
            result[rows, mixing.columns] = blocks[path.key] * path.scale
    return result


def size(entries: Labelled) -> int:
    """Columns of the feature tensor."""
    return sum(axis_size(axis) * ir.dim for ir, axis in entries)


def channels(entries: Labelled) -> int:
    """Channels of all entries."""
    return sum(axis_size(axis) for _, axis in entries)


def _identities(axis: Sequence) -> set:
    return {segment.identity for segment in axis}
