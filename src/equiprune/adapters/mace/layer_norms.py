"""Layer norms with right derivatives of every order.

The third derivatives of `torch.nn.functional.layer_norm` are wrong without a word (torch 2.13): its second one takes
mean and spread for constants. The loss on Hessian products needs the third, energies and forces do not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DifferentiableLayerNorm(nn.LayerNorm):
    """The same function of the last dimension, written out."""

    def forward(self, given: Tensor) -> Tensor:
        centred = given - given.mean(-1, keepdim=True)
        spread = torch.sqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        return centred / spread * self.weight + self.bias


def with_differentiable_norms(module: nn.Module) -> nn.Module:
    """The module, changed, with such layer norms in place of torch's; weights keep their names."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.LayerNorm:
                norm = DifferentiableLayerNorm(child.normalized_shape, eps=child.eps)
                norm.weight, norm.bias = child.weight, child.bias
                setattr(parent, name, norm)
    return module
