"""Rotation: fewer channels where any mixture of them would do.

Where one linear map makes the channels of a space and nothing but linear maps read them, choosing some of the channels
is a poor way to have fewer: the best k mixtures are the first k singular vectors of what the maps do together. Nothing
is lost where k is the rank of that. The embedding of the elements is such a space: of what the first interaction of
SevenNet-l3i5 reads from its 128 channels, the plan of 7net-mini loses 7 % with 64 of them, 64 mixtures lose 0.14 % (sum
of squares, all elements alike).

SliceGPT (arXiv 2401.15024) rotates by the principal directions of features; here the weights say it all, because what
goes in is one element or another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equiprune.adapters.capabilities import HasLinearMaps, Weights
from equiprune.blocks import LinearMap, PruningPlan, WeightLayout
from equiprune.blocks.linear_map import from_matrix, kept_columns, matrix, size, spread
from equiprune.potentials.potential import Potential


@dataclass(frozen=True)
class Rotated:
    """Weights in which spaces that are linear on both sides keep the best mixtures.

    Attributes:
        weights: all of the model's, float64.
        settled: submodules whose weights are as good as they can be for every input alike.
    """

    weights: Weights
    settled: frozenset[str]


def rotated(child: Potential, parent: Potential, plan: PruningPlan) -> Rotated:
    """The weights of a pruned model, with the best mixtures where there are such spaces.

    Only spaces of scalars that lost channels change. The parent's adapter shows its linear maps.
    """
    adapter = child.adapter
    weights: dict[str, Tensor] = {name: weight.double() for name, weight in child.checkpoint.weights.items()}
    settled: set[str] = set()
    if not isinstance(adapter, HasLinearMaps):
        return Rotated(weights, frozenset())
    own, theirs = adapter.layouts(child.architecture), adapter.layouts(parent.architecture)
    before = {name: weight.double() for name, weight in parent.checkpoint.weights.items()}
    spaces = zip(adapter.linear_spaces(child.architecture), adapter.linear_spaces(parent.architecture), strict=False)
    for (maker, readers), (their_maker, their_readers) in spaces:
        channels = size(maker.outputs)
        if channels == size(their_maker.outputs):
            continue
        reads = zip(readers, their_readers, strict=True)
        together = torch.cat([_kept(there, here, plan, theirs, before, their_maker) for here, there in reads], dim=1)
        made = matrix(their_maker, theirs[their_maker.weight], before[their_maker.weight])
        made = made[kept_columns(their_maker.inputs, maker.inputs, plan)]
        written, read = _best(made @ together, channels)
        weights[maker.weight] = from_matrix(maker, own[maker.weight], written)
        pieces = read.split([size(reader.outputs) for reader in readers], dim=1)
        settled |= {maker.module, *(reader.module for reader in readers)}
        for reader, piece in zip(readers, pieces, strict=True):
            does = matrix(reader, own[reader.weight], weights[reader.weight])
            does[_rows(reader, maker)] = piece
            weights[reader.weight] = from_matrix(reader, own[reader.weight], does)
    return Rotated(weights, frozenset(settled))


def _best(product: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Two factors with so many channels between them whose product is nearest; unused channels are zero.

    >>> written, read = _best(torch.tensor([[4.0, 0.0], [0.0, 1.0]]), 1)
    >>> (written @ read).tolist()
    [[4.0, 0.0], [0.0, 0.0]]
    """
    left, sizes, right = torch.linalg.svd(product, full_matrices=False)
    used, root = min(channels, len(sizes)), sizes[:channels].sqrt()
    written, read = product.new_zeros(len(product), channels), product.new_zeros(channels, product.shape[1])
    written[:, :used], read[:used] = left[:, :used] * root, root[:, None] * right[:used]
    return written, read


def _kept(
    reader: LinearMap,
    smaller: LinearMap,
    plan: PruningPlan,
    layouts: Mapping[str, WeightLayout],
    weights: Weights,
    maker: LinearMap,
) -> Tensor:
    """Effective weight of a reader of the parent from a space to the outputs that were kept."""
    does = matrix(reader, layouts[reader.weight], weights[reader.weight])[_rows(reader, maker)]
    return does[:, kept_columns(reader.outputs, smaller.outputs, plan)]


def _rows(reader: LinearMap, maker: LinearMap) -> slice:
    """The inputs of a reader that the maker makes."""
    [(_, made)] = maker.outputs
    return next(where for _, axis, where in spread(reader.inputs) if axis == made)
