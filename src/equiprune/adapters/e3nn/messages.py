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
    """The three factors of a message, or a gradient or a direction of all three.

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
        weights, harmonics, sums = side.weights(batch), side.harmonics(batch), output.rows(batch)
        for number, own in enumerate(product.inputs):
            coupled, sent = side.coupled(number, harmonics), side.sent(number, batch)
            for path, coupling in zip(own.paths, coupled.split(own.orders, 1), strict=True):
                weighted = torch.mul(sent, weights[path.number], out=side.scratch("weighted", sent.shape))
                found = torch.bmm(coupling, weighted.flatten(1, 2), out=output.room(path, own, batch))
                _write(found, sums[path.output])
    return output.in_order(near)


def gradients(gradient: Tensor, given: Operands, product: ChannelwiseProduct, near: Neighbourhoods) -> Operands:
    """Gradients by the operands of what has this gradient, (atoms, irreps_out.dim), by the sums."""
    side, found = _Side(given, product), _Gradients(given, product)
    above = _Above(gradient, product, near)
    for batch in near.batches:
        weights, harmonics, by_sums = side.weights(batch), side.harmonics(batch), above.rows(batch)
        by_weights = found.weights(batch)
        for number, own in enumerate(product.inputs):
            coupled, sent = side.coupled(number, harmonics), side.sent(number, batch)
            by_sent, by_coupled = found.begin(coupled, sent)
            couplings, by_couplings = coupled.split(own.orders, 1), by_coupled.split(own.orders, 1)
            for path, coupling, by_coupling in zip(own.paths, couplings, by_couplings, strict=True):
                weight, by_sum = weights[path.number], above.of(path, own, by_sums)
                weighted = torch.mul(sent, weight, out=side.scratch("weighted", sent.shape))
                by_coupling.copy_(found.product(by_sum, weighted))
                by_weighted = _spread(coupling, by_sum, side.scratch("by_weighted", sent.shape))
                by_sent.addcmul_(by_weighted, weight)
                by_weights[path.number].copy_(_over_orders(by_weighted.mul_(sent)))
            found.end(number, by_sent, by_coupled, batch)
        found.end_batch(batch)
    return found.operands(given)


def second(
    gradient: Tensor, given: Operands, along: Operands, product: ChannelwiseProduct, near: Neighbourhoods
) -> tuple[Tensor, Operands]:
    """Gradients of the scalar product of `gradients` with ``along``: by their ``gradient``, and by ``given``."""
    side, way = _Side(given, product), _Side(along, product)
    output, found = _Outputs(product, near, given.features), _Gradients(given, product)
    above = _Above(gradient, product, near)
    for batch in near.batches:
        weights, harmonics, by_sums = side.weights(batch), side.harmonics(batch), above.rows(batch)
        weights_way, harmonics_way = way.weights(batch), way.harmonics(batch)
        by_weights, sums = found.weights(batch), output.rows(batch)
        for number, own in enumerate(product.inputs):
            coupled, sent = side.coupled(number, harmonics), side.sent(number, batch)
            coupled_way, sent_way = way.coupled(number, harmonics_way), way.sent(number, batch)
            by_sent, by_coupled = found.begin(coupled, sent)
            pieces = (whole.split(own.orders, 1) for whole in (coupled, coupled_way, by_coupled))
            for path, coupling, coupling_way, by_coupling in zip(own.paths, *pieces, strict=True):
                weight, weight_way = weights[path.number], weights_way[path.number]
                by_sum = above.of(path, own, by_sums)
                weighted = torch.mul(sent, weight, out=side.scratch("weighted", sent.shape))
                weighted_way = torch.mul(sent, weight_way, out=way.scratch("weighted", sent.shape))
                weighted_way.addcmul_(sent_way, weight)
                summed_way = torch.bmm(coupling, weighted_way.flatten(1, 2), out=output.room(path, own, batch))
                _write(summed_way.baddbmm_(coupling_way, weighted.flatten(1, 2)), sums[path.output])
                by_coupling.copy_(found.product(by_sum, weighted_way))
                by_weighted = _spread(coupling, by_sum, side.scratch("by_weighted", sent.shape))
                by_way = _spread(coupling_way, by_sum, way.scratch("by_weighted", sent.shape))
                by_sent.addcmul_(by_way, weight).addcmul_(by_weighted, weight_way)
                by_weights[path.number].copy_(_over_orders(by_way.mul_(sent).addcmul_(by_weighted, sent_way)))
            found.end(number, by_sent, by_coupled, batch)
        found.end_batch(batch)
    return output.in_order(near), found.operands(given)


def _write(sums: Tensor, into: Tensor) -> None:
    """Put sums of a path, (n, 2 l3 + 1, u), into its columns of the output."""
    n, orders, channels = sums.shape
    into.view(n, channels, orders).copy_(sums.transpose(1, 2))


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
        self._product = product
        self.scratch = _Scratch(features)
        self._couplings = _couplings(product, features)
        # Channels last: then every product of numbers and every matrix below has them in a row.
        self._features = [
            features[:, own.columns].reshape(-1, own.mul, own.dim).permute(2, 0, 1).contiguous()
            for own in product.inputs
        ]

    def weights(self, batch: Batch) -> tuple[Tensor, ...]:
        """Weights of each path, (n, 1, k, u)."""
        shape = (len(batch.edges), self._weights.shape[1])
        rows = torch.index_select(self._weights, 0, batch.edges, out=self.scratch("weights", shape))
        return rows.view(batch.shape[0], 1, batch.shape[1], -1).split(self._product.widths, -1)

    def harmonics(self, batch: Batch) -> Tensor:
        """(n, irreps_in2.dim, k), zero where there is no edge: then it takes no part in any sum."""
        rows = self._harmonics.index_select(0, batch.edges)
        rows = rows if batch.present is None else rows * batch.present
        return rows.unflatten(0, batch.shape).transpose(1, 2)

    def coupled(self, number: int, harmonics: Tensor) -> Tensor:
        """Harmonics coupled to the m1 and m3 of an input, (n, s, d k)."""
        n, _, k = harmonics.shape
        coupled = torch.bmm(self._couplings[number].expand(n, -1, -1), harmonics)
        return coupled.view(n, -1, self._product.inputs[number].dim * k)

    def sent(self, number: int, batch: Batch) -> Tensor:
        """Features of the atoms that send, (n, d, k, u)."""
        features = self._features[number]
        d, atoms, channels = features.shape
        rows = batch.senders + atoms * torch.arange(d, device=features.device).view(-1, 1)
        into = self.scratch("sent", (rows.numel(), channels))
        return torch.index_select(features.flatten(0, 1), 0, rows.flatten(), out=into).view(*rows.shape, channels)


class _Above:
    """The gradient by the sums, as the atoms of a batch have it."""

    def __init__(self, gradient: Tensor, product: ChannelwiseProduct, near: Neighbourhoods) -> None:
        self._rows, self._columns = gradient.index_select(0, near.order), product.outputs
        self._scratch = _Scratch(gradient)

    def rows(self, batch: Batch) -> tuple[Tensor, ...]:
        """By each entry of the output."""
        return self._rows[batch.atoms].split(self._columns, 1)

    def of(self, path: Path, own: Input, rows: Sequence[Tensor]) -> Tensor:
        """By the sums of a path, (n, 2 l3 + 1, u)."""
        by_sum = rows[path.output].view(-1, own.mul, path.orders).transpose(1, 2)
        return self._scratch("gradient", by_sum.shape).copy_(by_sum)


class _Outputs:
    """Sums, in the order of the batches until the end."""

    def __init__(self, product: ChannelwiseProduct, near: Neighbourhoods, like: Tensor) -> None:
        self._rows, self._columns = like.new_zeros(len(near.order), sum(product.outputs)), product.outputs
        self._scratch = _Scratch(like)

    def rows(self, batch: Batch) -> tuple[Tensor, ...]:
        """Memory for the sums of the paths."""
        return self._rows[batch.atoms].split(self._columns, 1)

    def room(self, path: Path, own: Input, batch: Batch) -> Tensor:
        """Memory for the sums of a path, (n, 2 l3 + 1, u)."""
        return self._scratch("room", (batch.shape[0], path.orders, own.mul))

    def in_order(self, near: Neighbourhoods) -> Tensor:
        """(atoms, irreps_out.dim)."""
        return self._rows.index_select(0, near.place)


class _Gradients:
    """Gradients by the operands, from those by what `_Side` makes of them."""

    def __init__(self, given: Operands, product: ChannelwiseProduct) -> None:
        features, harmonics, weights = given
        self._product, self._scratch = product, _Scratch(features)
        self._couplings = _couplings(product, features)
        self._features = [features.new_zeros(len(features), own.dim * own.mul) for own in product.inputs]
        edges = len(harmonics) + 1  # the last one is for places without an edge
        self._harmonics, self._weights = (x.new_empty(edges, x.shape[1]) for x in (harmonics, weights))
        self._of_batch: list[Tensor] = []

    def begin(self, coupled: Tensor, sent: Tensor) -> tuple[Tensor, Tensor]:
        """Memory for gradients of an input: by what is sent, to be added to, and by what is coupled, to be written."""
        by_sent, by_coupled = self._scratch("features", sent.shape), self._scratch("by_coupled", coupled.shape)
        return by_sent.zero_(), by_coupled

    def weights(self, batch: Batch) -> tuple[Tensor, ...]:
        """Memory for the gradient by the weights of each path, (n, k, u)."""
        rows = self._scratch("weights", (*batch.shape, self._weights.shape[1]))
        return rows.split(self._product.widths, -1)

    def product(self, by_sum: Tensor, weighted: Tensor) -> Tensor:
        """The gradient by what is coupled of a path, (n, 2 l3 + 1, d k)."""
        features = weighted.flatten(1, 2).transpose(1, 2)
        room = self._scratch("product", (*by_sum.shape[:2], features.shape[2]))
        return torch.bmm(by_sum, features, out=room)

    def end(self, number: int, by_sent: Tensor, by_coupled: Tensor, batch: Batch) -> None:
        """Add what the paths of an input have left."""
        by_atom = by_sent.transpose(1, 2)
        rows = self._scratch("sent", by_atom.shape).copy_(by_atom).view(len(batch.edges), -1)
        self._features[number].index_add_(0, batch.senders.flatten(), rows)
        n, k = batch.shape
        coupling = self._couplings[number].expand(n, -1, -1)
        self._of_batch.append(torch.bmm(by_coupled.view(n, -1, k).transpose(1, 2), coupling))

    def end_batch(self, batch: Batch) -> None:
        """Write what belongs to the edges of a batch."""
        rows = self._scratch("weights", (len(batch.edges), self._weights.shape[1]))
        self._weights.index_copy_(0, batch.targets, rows)
        self._harmonics.index_copy_(0, batch.targets, torch.stack(self._of_batch).sum(0).flatten(0, 1))
        self._of_batch.clear()

    def operands(self, given: Operands) -> Operands:
        """All of them, in e3nn's order."""
        features = torch.zeros_like(given.features)
        for own, rows in zip(self._product.inputs, self._features, strict=True):
            into = features[:, own.columns].unflatten(1, (own.mul, own.dim))
            into.copy_(rows.unflatten(1, (own.dim, own.mul)).transpose(1, 2))
        return Operands(features, self._harmonics[:-1], self._weights[:-1])


def _couplings(product: ChannelwiseProduct, like: Tensor) -> list[Tensor]:
    """Couplings of each input, (s d, columns of the harmonics)."""
    return [own.coupling.flatten(0, 1).to(like) for own in product.inputs]
