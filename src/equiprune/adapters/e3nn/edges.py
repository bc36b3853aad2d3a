"""Sums of messages over edges, for architectures of NequIP's kind: by messages, or without them.

On a device other than a CPU, where nothing was measured, e3nn's own code goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from equiprune.adapters.e3nn.channelwise import ChannelwiseProduct
from equiprune.adapters.e3nn.convolution import convolution
from equiprune.adapters.e3nn.messages import Operands
from equiprune.adapters.e3nn.neighbourhoods import Neighbourhoods


@dataclass(frozen=True)
class Edges:
    """The edges of a graph, the same for all layers.

    Attributes:
        receivers, senders: (edges,) atoms at both ends.
        harmonics: (edges, (lmax + 1)^2) spherical harmonics of the direction to the sender.
        radial: (edges, functions) radial basis times the cutoff function.
        atoms: their number.
    """

    receivers: Tensor
    senders: Tensor
    harmonics: Tensor
    radial: Tensor
    atoms: int

    def near(self, places: int) -> Neighbourhoods:
        """The edges by the atoms that receive, so many in a batch."""
        if places not in self._near:
            self._near[places] = Neighbourhoods.of(self.receivers, self.senders, self.atoms, places)
        return self._near[places]

    @cached_property
    def _near(self) -> dict[int, Neighbourhoods]:
        """By places, what other layers have asked for."""
        return {}


_QUICKER = "equiprune_product"
"""Attribute of a tensor product whose sums over neighbours are made without messages: itself as data."""


def make_quicker(products: Iterable[Any]) -> None:
    """Sums over neighbours of these tensor products now take less time on a CPU."""
    for product in products:
        setattr(product, _QUICKER, ChannelwiseProduct.of(product))


def summed(product: Any, sent: Tensor, weights: Tensor, edges: Edges) -> Tensor:
    """Sums over neighbours of their features times harmonics and weights, (atoms, columns of the tensor product)."""
    quicker = getattr(product, _QUICKER, None)
    if quicker is not None and sent.device.type == "cpu":
        return convolution(Operands(sent, edges.harmonics, weights), quicker, edges.near(quicker.places))
    messages = product(sent[edges.senders], edges.harmonics, weights)
    return messages.new_zeros(edges.atoms, messages.shape[1]).index_add(0, edges.receivers, messages)
