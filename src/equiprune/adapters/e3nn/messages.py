"""Sums over neighbours of a channel-wise tensor product, and their first and second derivatives.

The sum over the neighbours of an atom and over m1 is one matrix product: (m3 x neighbours and m1) times (neighbours and
m1 x channels). The first matrix is the coupling with the spherical harmonics, the second the neighbours' features times
the weights. Messages, one for each edge, path, channel and m3, are never made, and nothing that is made outgrows a
batch of `neighbourhoods`, but the gradients of the operands. What a derivative needs is computed again. Shapes below:

    n atoms, k neighbours of each, d = 2 l1 + 1, s = sum of 2 l3 + 1 over the paths of an input, u channels
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from equiprune.adapters.e3nn.channelwise import ChannelwiseProduct, Input, Path
from equiprune.adapters.e3nn.neighbourhoods import Batch, Neighbourhoods


class Operands(NamedTuple):
    """What is multiplied, or a gradient or a direction of all three.

    Attributes:
        features: (atoms, irreps_in1.dim).
        harmonics: (edges, irreps_in2.dim).
        weights: (edges, weight_numel).
    """

    features: Tensor
    harmonics: Tensor
    weights: Tensor


def summed(given: Operands, product: ChannelwiseProduct, near: Neighbourhoods) -> Tensor:
    """Sums over the edges to each atom, (atoms, irreps_out.dim)."""
    side, output = _Side(given, product), _Outputs(product, near, given.features)
    for batch in near.batches:
        weights, harmonics = side.weights(batch), side.harmonics(batch)
        for number, own in enumerate(product.inputs):
            coupled, sent = side.coupled(number, harmonics), side.sent(number, batch)
            for path in own.paths:
                weighted = torch.mul(sent, weights[..., path.weights], out=side.scratch("weighted", sent.shape))
                with_m3 = output.room(path, own, batch)
                output.write(path, batch, torch.bmm(coupled[:, path.orders], weighted.flatten(1, 2), out=with_m3))
    return output.in_order(near)


def gradients(gradient: Tensor, given: Operands, product: ChannelwiseProduct, near: Neighbourhoods) -> Operands:
    """Gradients by the operands of what has this gradient, (atoms, irreps_out.dim), by the sums."""
    side, found = _Side(given, product), _Gradients(given, product)
    above = gradient.index_select(0, near.order)
    for batch in near.batches:
        weights, harmonics = side.weights(batch), side.harmonics(batch)
        for number, own in enumerate(product.inputs):
            coupled, sent = side.coupled(number, harmonics), side.sent(number, batch)
            into = found.begin(coupled, sent)
            for path in own.paths:
                weight, by_sum = weights[..., path.weights], side.gradient(above, path, own, batch)
                weighted = torch.mul(sent, weight, out=side.scratch("weighted", sent.shape))
                into.coupled(path, by_sum, weighted)
                by_weighted = _spread(coupled[:, path.orders], by_sum, side.scratch("by_weighted", sent.shape))
                into.features.addcmul_(by_weighted, weight)
                found.weights(batch, path).copy_(_over_orders(by_weighted.mul_(sent)))
            found.end(number, into, batch)
        found.end_batch(batch)
    return found.operands(given)


def second(
    gradient: Tensor, given: Operands, along: Operands, product: ChannelwiseProduct, near: Neighbourhoods
) -> tuple[Tensor, Operands]:
    """Gradients of the scalar product of `gradients` with ``along``: by their ``gradient``, and by ``given``."""
    side, way = _Side(given, product), _Side(along, product)
    output, found = _Outputs(product, near, given.features), _Gradients(given, product)
    above = gradient.index_select(0, near.order)
    for batch in near.batches:
        weights, harmonics = side.weights(batch), side.harmonics(batch)
        weights_way, harmonics_way = way.weights(batch), way.harmonics(batch)
        for number, own in enumerate(product.inputs):
            coupled, sent = side.coupled(number, harmonics), side.sent(number, batch)
            coupled_way, sent_way = way.coupled(number, harmonics_way), way.sent(number, batch)
            into = found.begin(coupled, sent)
            for path in own.paths:
                weight, weight_way = weights[..., path.weights], weights_way[..., path.weights]
                by_sum, orders = side.gradient(above, path, own, batch), path.orders
                weighted = torch.mul(sent, weight, out=side.scratch("weighted", sent.shape))
                weighted_way = torch.mul(sent, weight_way, out=way.scratch("weighted", sent.shape))
                weighted_way.addcmul_(sent_way, weight)
                with_m3 = torch.bmm(coupled[:, orders], weighted_way.flatten(1, 2), out=output.room(path, own, batch))
                output.write(path, batch, with_m3.baddbmm_(coupled_way[:, orders], weighted.flatten(1, 2)))
                into.coupled(path, by_sum, weighted_way)
                by_weighted = _spread(coupled[:, orders], by_sum, side.scratch("by_weighted", sent.shape))
                by_way = _spread(coupled_way[:, orders], by_sum, way.scratch("by_weighted", sent.shape))
                into.features.addcmul_(by_way, weight).addcmul_(by_weighted, weight_way)
                found.weights(batch, path).copy_(_over_orders(by_way.mul_(sent).addcmul_(by_weighted, sent_way)))
            found.end(number, into, batch)
        found.end_batch(batch)
    return output.in_order(near), found.operands(given)


def _spread(coupled: Tensor, by_sum: Tensor, into: Tensor) -> Tensor:
    """Gradient by weighted features, (n, d, k, u), from that by the sums of a path, (n, 2 l3 + 1, u)."""
    torch.bmm(coupled.transpose(1, 2), by_sum, out=into.flatten(1, 2))
    return into


def _over_orders(values: Tensor) -> Tensor:
    """The sum over m1 of (n, d, k, u)."""
    return values[:, 0] if values.shape[1] == 1 else values.sum(1)


class _Scratch:
    """Memory by name that is written again and again: fresh memory costs more than most of what is done here."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[str, Tensor] = {}

    def __call__(self, name: str, shape: Sequence[int]) -> Tensor:
        size = 1
        for length in shape:
            size *= length
        held = self._held.get(name)
        if held is None or len(held) < size:
            held = self._held[name] = self._like.new_empty(size)
        return held[:size].view(shape)


class _Side:
    """Operands as the edges of a batch see them."""

    def __init__(self, given: Operands, product: ChannelwiseProduct) -> None:
        features, self._harmonics, self._weights = given
        self._inputs = product.inputs
        self.scratch = _Scratch(features)
        self._couplings = [own.coupling.flatten(0, 1).to(features) for own in product.inputs]
        # Channels last: then every product of numbers and every matrix below has them in a row.
        self._features = [
            features[:, own.columns].reshape(-1, own.mul, own.dim).permute(2, 0, 1).contiguous()
            for own in product.inputs
        ]

    def weights(self, batch: Batch) -> Tensor:
        """(n, 1, k, weight_numel)."""
        shape = (len(batch.edges), self._weights.shape[1])
        rows = torch.index_select(self._weights, 0, batch.edges, out=self.scratch("weights", shape))
        return rows.unflatten(0, batch.shape).unsqueeze(1)

    def harmonics(self, batch: Batch) -> Tensor:
        """(n, irreps_in2.dim, k), zero where there is no edge: then it takes no part in any sum."""
        rows = self._harmonics.index_select(0, batch.edges)
        rows = rows if batch.present is None else rows * batch.present
        return rows.unflatten(0, batch.shape).transpose(1, 2)

    def coupled(self, number: int, harmonics: Tensor) -> Tensor:
        """Harmonics coupled to the m1 and m3 of an input, (n, s, d k)."""
        coupling = self._couplings[number].expand(len(harmonics), -1, -1)
        return torch.bmm(coupling, harmonics).view(len(harmonics), -1, self._inputs[number].dim * harmonics.shape[2])

    def sent(self, number: int, batch: Batch) -> Tensor:
        """Features of the atoms that send, (n, d, k, u)."""
        features = self._features[number]
        d, atoms, channels = features.shape
        rows = batch.senders + atoms * torch.arange(d, device=features.device).view(-1, 1)
        into = self.scratch("sent", (rows.numel(), channels))
        return torch.index_select(features.flatten(0, 1), 0, rows.flatten(), out=into).unflatten(0, rows.shape)

    def gradient(self, above: Tensor, path: Path, own: Input, batch: Batch) -> Tensor:
        """Gradient by the sums of a path, (n, 2 l3 + 1, u), of that by all sums."""
        rows = above[batch.atoms, path.outputs].unflatten(1, (own.mul, -1)).transpose(1, 2)
        return self.scratch("gradient", rows.shape).copy_(rows)


class _Outputs:
    """Sums, in the order of the batches until the end."""

    def __init__(self, product: ChannelwiseProduct, near: Neighbourhoods, like: Tensor) -> None:
        self._rows = like.new_zeros(len(near.order), product.columns)
        self._scratch = _Scratch(like)

    def room(self, path: Path, own: Input, batch: Batch) -> Tensor:
        """Memory for the sums of a path, (n, 2 l3 + 1, u)."""
        orders = path.orders.stop - path.orders.start
        return self._scratch("room", (batch.shape[0], orders, own.mul))

    def write(self, path: Path, batch: Batch, sums: Tensor) -> None:
        into = self._rows[batch.atoms, path.outputs].unflatten(1, (sums.shape[2], -1))
        into.copy_(sums.transpose(1, 2))

    def in_order(self, near: Neighbourhoods) -> Tensor:
        """(atoms, irreps_out.dim)."""
        return self._rows.index_select(0, near.place)


class _Into(NamedTuple):
    """Gradients that the paths of one input add to: by the features sent, (n, d, k, u), and by what is coupled."""

    features: Tensor
    by_coupled: Tensor
    scratch: _Scratch

    def coupled(self, path: Path, by_sum: Tensor, weighted: Tensor) -> None:
        """Write what belongs to the m3 of a path."""
        into = self.by_coupled[:, path.orders]
        product = torch.bmm(by_sum, weighted.flatten(1, 2).transpose(1, 2), out=self.scratch("coupled", into.shape))
        into.copy_(product)


class _Gradients:
    """Gradients by the operands, from those by what `_Side` makes of them."""

    def __init__(self, given: Operands, product: ChannelwiseProduct) -> None:
        features, harmonics, weights = given
        self._inputs, self._scratch = product.inputs, _Scratch(features)
        self._couplings = [own.coupling.flatten(0, 1).to(features) for own in product.inputs]
        self._features = [features.new_zeros(len(features), own.dim * own.mul) for own in product.inputs]
        edges = len(harmonics) + 1  # the last one is for places without an edge
        self._harmonics, self._weights = (x.new_empty(edges, x.shape[1]) for x in (harmonics, weights))
        self._of_batch: list[Tensor] = []

    def begin(self, coupled: Tensor, sent: Tensor) -> _Into:
        """Memory for the gradients of an input of the product, by what it is given."""
        features, by_coupled = self._scratch("features", sent.shape), self._scratch("by_coupled", coupled.shape)
        return _Into(features.zero_(), by_coupled, self._scratch)

    def weights(self, batch: Batch, path: Path) -> Tensor:
        """Memory for the gradient by the weights of a path, (n, k, u)."""
        rows = self._scratch("weights", (*batch.shape, self._weights.shape[1]))
        return rows[..., path.weights]

    def end(self, number: int, into: _Into, batch: Batch) -> None:
        """Add what the paths of an input have left."""
        sent = into.features.transpose(1, 2)
        rows = self._scratch("sent", sent.shape).copy_(sent).view(len(batch.edges), -1)
        self._features[number].index_add_(0, batch.senders.flatten(), rows)
        by_coupled = into.by_coupled.view(batch.shape[0], -1, batch.shape[1]).transpose(1, 2)
        self._of_batch.append(torch.bmm(by_coupled, self._couplings[number].expand(len(by_coupled), -1, -1)))

    def end_batch(self, batch: Batch) -> None:
        """Write what belongs to the edges of a batch."""
        rows = self._scratch("weights", (len(batch.edges), self._weights.shape[1]))
        self._weights.index_copy_(0, batch.targets, rows)
        self._harmonics.index_copy_(0, batch.targets, torch.stack(self._of_batch).sum(0).flatten(0, 1))
        self._of_batch.clear()

    def operands(self, given: Operands) -> Operands:
        features = torch.zeros_like(given.features)
        for own, rows in zip(self._inputs, self._features, strict=True):
            into = features[:, own.columns].unflatten(1, (own.mul, own.dim))
            into.copy_(rows.unflatten(1, (own.dim, own.mul)).transpose(1, 2))
        return Operands(features, self._harmonics[:-1], self._weights[:-1])
