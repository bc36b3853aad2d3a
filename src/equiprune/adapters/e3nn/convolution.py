"""The convolution of NequIP and its kin, differentiable as often as wanted: forces, training on them, Hessians.

Energies need its value, forces and scores its gradient, and training on forces the gradient of that gradient: each is
one function of `messages`. What is asked beyond is put together of these, since the convolution is linear in each of
its operands.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equiprune.adapters.e3nn import messages
from equiprune.adapters.e3nn.channelwise import ChannelwiseProduct
from equiprune.adapters.e3nn.messages import Operands
from equiprune.adapters.e3nn.neighbourhoods import Neighbourhoods


def convolution(given: Operands, product: ChannelwiseProduct, near: Neighbourhoods) -> Tensor:
    """Sums over the edges to each atom of the product of all operands, (atoms, irreps_out.dim).

    Args:
        given: features of atoms, spherical harmonics and weights of edges.
        product: e3nn's tensor product as data.
        near: the edges.
    """
    return _Sum.apply(*given, product, near)


class _Sum(torch.autograd.Function):
    """The sum over neighbours: a function of three operands, linear in each."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        *operands, product, near = _kept(ctx, given)
        return messages.summed(Operands(*operands), product, near)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_Gradient.apply(*gradient, *ctx.saved_tensors, *ctx.of), None, None


class _Gradient(torch.autograd.Function):
    """The gradient of the sum by its operands; the first argument is the gradient by the sum."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        gradient, *operands, product, near = _kept(ctx, given)
        return messages.gradients(gradient, Operands(*operands), product, near)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
        return *_Second.apply(*ctx.saved_tensors, *along, *ctx.of), None, None


class _Second(torch.autograd.Function):
    """The gradient of `_Gradient` by its arguments; the last operands are gradients by those of the sum."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        gradient, *operands, product, near = _kept(ctx, given)
        by_gradient, by_operands = messages.second(
            gradient, Operands(*operands[:3]), Operands(*operands[3:]), product, near
        )
        return by_gradient, *by_operands

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        further = torch.is_grad_enabled()
        with torch.enable_grad():
            # Views, so that what is differentiated below ends here, and goes on from here where that is asked for.
            given = [x.view_as(x) if further and x.requires_grad else _leaf(x) for x in ctx.saved_tensors]
            results = _second(given, *ctx.of)
        found = torch.autograd.grad(results, given, above, create_graph=further, materialize_grads=True)
        return *found, None, None


def _kept(ctx: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, tensors and then product and edges, after the context has been told to keep them."""
    *tensors, product, near = given
    ctx.save_for_backward(*tensors)
    ctx.of = product, near
    return given


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _second(given: list[Tensor], product: ChannelwiseProduct, near: Neighbourhoods) -> list[Tensor]:
    """The tensors of `messages.second`, of functions that can be differentiated: one term for each operand replaced."""
    gradient, operands, along = given[0], given[1:4], given[4:]
    found: list[list[Tensor]] = [[], [], [], []]
    for changed in range(3):
        term = [along[i] if i == changed else operands[i] for i in range(3)]
        found[0].append(_Sum.apply(*term, product, near))
        for i, by_operand in enumerate(_Gradient.apply(gradient, *term, product, near)):
            if i != changed:
                found[i + 1].append(by_operand)
    return [torch.stack(terms).sum(0) for terms in found]
