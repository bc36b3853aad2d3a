"""SevenNet's convolution without its messages: sevenn/nn/convolution.py, evaluated by `equiprune.adapters.e3nn`.

Names of parameters and buffers are upstream's, and so is the network that makes weights of edges. On a device other
than a CPU, where nothing was measured, e3nn's own code goes on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from equiprune.adapters.e3nn.channelwise import ChannelwiseProduct
from equiprune.adapters.e3nn.convolution import convolution
from equiprune.adapters.e3nn.messages import Operands
from equiprune.adapters.e3nn.neighbourhoods import Neighbourhoods

_NEIGHBOURHOODS = "equiprune.neighbourhoods"
"""Key, with the size of batches, under which the edges, once put in order, travel to the next interactions."""


def with_quicker_convolutions(module: nn.Module, interactions: int) -> nn.Module:
    """The module that was given, whose convolutions are now evaluated by `QuickerConvolution`."""
    for t in range(interactions):
        own = module.get_submodule(f"{t}_convolution")
        product = ChannelwiseProduct.of(own.convolution)
        if product is not None:
            setattr(module, f"{t}_convolution", QuickerConvolution(own, product))
    return module


class QuickerConvolution(nn.Module):
    """The function of an ``IrrepsConvolution`` with its parameters, in less time and memory on a CPU."""

    def __init__(self, upstream: Any, product: ChannelwiseProduct) -> None:
        super().__init__()
        self.denominator = upstream.denominator
        self.convolution, self.weight_nn = upstream.convolution, upstream.weight_nn
        self._keys = (upstream.key_x, upstream.key_filter, upstream.key_weight_input, upstream.key_edge_idx)
        self._product = product

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        """Upstream's dictionary with messages, summed over neighbours, in the place of features."""
        features, harmonics, radial, edges = (data[key] for key in self._keys)
        given = Operands(features, harmonics, self.weight_nn(radial))
        if features.device.type == "cpu":
            summed = convolution(given, self._product, self._near(data, edges, len(features)))
        else:
            summed = self._by_messages(given, edges)
        data[self._keys[0]] = summed.div(self.denominator)
        return data

    def _near(self, data: dict[str, Any], edges: Tensor, atoms: int) -> Neighbourhoods:
        places = self._product.places
        key = f"{_NEIGHBOURHOODS}.{places}"
        if key not in data:
            data[key] = Neighbourhoods.of(edges[0], edges[1], atoms, places)
        return data[key]

    def _by_messages(self, given: Operands, edges: Tensor) -> Tensor:
        """Upstream's way."""
        features, harmonics, weights = given
        messages = self.convolution(features[edges[1]], harmonics, weights)
        sums = torch.zeros(len(features), messages.shape[1], dtype=features.dtype, device=features.device)
        return sums.scatter_reduce_(0, edges[0, :, None].expand_as(messages), messages, reduce="sum")
