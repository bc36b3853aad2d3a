"""Code whose slices became one split is the same function, with the same gradients of every order, to the bit."""

from collections.abc import Callable

import pytest
import torch
from backward_pass import steps
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx

from equiprune.adapters.e3nn.fused_gradients import rearranged

Spans = list[tuple[int, int]]


def product_of_slices(spans: Spans) -> Callable[[Tensor, Tensor], Tensor]:
    """Pieces of two tensors multiplied and put together, as a tensor product does."""

    def function(x: Tensor, w: Tensor) -> Tensor:
        pieces = [x[:, a:b].sin() * w.narrow(-1, a, b - a) for a, b in spans]
        return torch.cat([pieces[0] * pieces[0], *pieces], dim=-1)

    return function


def gradients(function: Callable[[Tensor, Tensor], Tensor], width: int) -> list[Tensor]:
    """The value, the gradient by x, and the gradient by w of a function of both: what a loss of forces needs."""
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(5, width, generator=generator, dtype=torch.float64, requires_grad=True) for _ in "xw")
    value = function(x, w)
    (by_x,) = torch.autograd.grad(value.square().sum(), [x], create_graph=True)
    (by_w,) = torch.autograd.grad(value.sum() + by_x.square().sum(), [w])
    return [value, by_x, by_w]


@st.composite
def disjoint(draw: st.DrawFn) -> tuple[Spans, int]:
    """Spans of a width, with gaps between them, and the width."""
    edges = sorted(draw(st.lists(st.integers(0, 12), min_size=4, max_size=8, unique=True)))
    return list(zip(edges[::2], edges[1::2], strict=False)), edges[-1] + draw(st.integers(0, 2))


@given(disjoint())
def test_values_and_gradients_are_the_same_to_the_bit(case: tuple[Spans, int]) -> None:
    spans, width = case
    code = fx.symbolic_trace(product_of_slices(spans))
    before = gradients(code, width)
    after = gradients(rearranged(code), width)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)


def test_a_slice_taken_twice_is_one_piece() -> None:
    """Gradients are then added in another order."""
    code = fx.symbolic_trace(product_of_slices([(0, 2), (2, 5), (0, 2)]))
    before = gradients(code, 5)
    for a, b in zip(before, gradients(rearranged(code), 5), strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-13)


def test_no_gradient_of_any_order_writes_zeros_around_a_slice() -> None:
    code = fx.symbolic_trace(product_of_slices([(0, 2), (2, 5)]))
    plain = {"SliceBackward0", "CatBackward0"}
    assert plain <= set(steps(*differentiated_thrice(code)))
    assert plain.isdisjoint(steps(*differentiated_thrice(rearranged(code))))


def differentiated_thrice(function: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """A function and its gradients, each of the one before: those of energy, forces and the Hessian."""
    x, w = (torch.ones(5, 5, dtype=torch.float64, requires_grad=True) for _ in "xw")
    found = [function(x, w)]
    for _ in range(3):
        found += torch.autograd.grad(found[-1].square().sum(), [x], create_graph=True)
    return found


@pytest.mark.filterwarnings("ignore:The TorchScript type system")
def test_torchscript_takes_it() -> None:
    code = fx.symbolic_trace(product_of_slices([(0, 2), (2, 5)]))
    before = gradients(code, 5)
    for a, b in zip(before, gradients(torch.jit.script(rearranged(code)), 5), strict=True):
        assert torch.equal(a, b)


def overlapping(x: Tensor, w: Tensor) -> Tensor:
    return x[:, 0:3] * w[:, 1:4]


def overlapping_in_one(x: Tensor, w: Tensor) -> Tensor:
    return x[:, 0:3] * x[:, 2:5] + w[:, 0:3]


def of_two_dimensions(x: Tensor, w: Tensor) -> Tensor:
    return x.narrow(0, 0, 3).sum() * x.narrow(1, 0, 3) * w[:, 0:3]


def written_to(x: Tensor, w: Tensor) -> Tensor:
    made = x.new_zeros(5, 4)
    made.narrow(1, 0, 2).copy_(x[:, 0:2])
    made.narrow(1, 2, 2).copy_(w[:, 0:2])
    return made


@pytest.mark.parametrize("function", [overlapping, overlapping_in_one, of_two_dimensions, written_to])
def test_what_is_no_partition_stays_as_it_is(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    code = fx.symbolic_trace(function)
    before = gradients(code, 6)
    after = rearranged(code)
    assert all(node.target is not torch.ops.equiprune.split for node in after.graph.nodes)
    for a, b in zip(before, gradients(after, 6), strict=True):
        assert torch.equal(a, b)
