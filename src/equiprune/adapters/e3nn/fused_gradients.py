"""e3nn's generated code, rearranged so that its gradients cost less; values and gradients stay the same to the bit.

e3nn takes a tensor of many irreps apart by one slice for each, and puts the results of all paths together at the end
(o3/_tensor_product/_codegen.py). The backward pass of a slice writes a tensor of zeros as large as what was sliced, so
taking apart into n pieces costs n such tensors; the backward pass of a concatenation slices, so the gradient of forces
pays again. Here one split has one concatenation for a backward pass, and the other way round, in every order. (Where
code takes the same slice twice, which e3nn's does not, gradients are added in another order.)
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx


@contextmanager
def quicker_gradients() -> Iterator[None]:
    """Rearrange the code of every e3nn module that is built meanwhile. For training: it is not stock code any more."""
    from e3nn.util.codegen import CodeGenMixin

    register = CodeGenMixin._codegen_register

    def rearranging(self: Any, funcs: dict[str, fx.GraphModule]) -> None:
        register(self, {name: rearranged(code) for name, code in funcs.items()})

    CodeGenMixin._codegen_register = rearranging
    try:
        yield
    finally:
        CodeGenMixin._codegen_register = register


def rearranged(code: fx.GraphModule) -> fx.GraphModule:
    """The same function with one split for all slices of a tensor, and with concatenations whose gradient is a split.

    The argument is changed. Slices that overlap, and those written to, stay as they are.
    """
    for node in list(code.graph.nodes):
        cuts = {user: cut for user in node.users if (cut := _cut(user))}
        if len(set(cuts.values())) > 1 and _separate(list(cuts.values())) and not any(map(_written_to, (node, *cuts))):
            _split(code.graph, node, cuts)
        if node.target is torch.cat:
            _concatenate(code.graph, node)
    code.graph.lint()
    code.recompile()
    return code


class _Cut(NamedTuple):
    """A slice of one dimension."""

    dim: int
    start: int
    stop: int


def _cut(node: fx.Node) -> _Cut | None:
    """Dimension, start and length of ``x[:, start:stop]`` or ``x.narrow(...)``, where the code has the numbers."""
    match node.target, node.args:
        case operator.getitem, (_, (slice(start=None, stop=None, step=None), slice(step=None) as of)):
            dim, start, stop = 1, of.start or 0, of.stop
        case "narrow", (_, dim, int(start), int(length)):
            stop = start + length
        case _:
            return None
    known = all(isinstance(number, int) for number in (dim, start, stop)) and 0 <= start <= stop
    return _Cut(dim, start, stop) if known else None


def _separate(cuts: Sequence[_Cut]) -> bool:
    """True if they cut the same dimension and any two are one or apart."""
    ordered = sorted(set(cuts))
    return all(a.dim == b.dim and a.stop <= b.start for a, b in pairwise(ordered))


def _written_to(node: fx.Node) -> bool:
    """True if a method changes it in place: pieces of a split must not be."""
    names = (str(user.target) for user in node.users if user.op == "call_method" and user.args[0] is node)
    return any(name.endswith("_") and not name.endswith("__") for name in names)


def _split(graph: fx.Graph, whole: fx.Node, cuts: dict[fx.Node, _Cut]) -> None:
    """Put pieces of one split in the place of slices; what no slice takes is a piece of its own."""
    ordered = sorted(set(cuts.values()))
    dim, sizes, pieces, end = ordered[0].dim, [], {}, 0
    for cut in ordered:
        sizes += [cut.start - end] if cut.start > end else []
        pieces[cut], end = len(sizes), cut.stop
        sizes.append(cut.stop - cut.start)
    with graph.inserting_after(whole):
        length = graph.call_method("size", (whole, dim))
    with graph.inserting_after(length):
        rest = graph.call_function(operator.sub, (length, end))
    with graph.inserting_after(rest):
        split = graph.call_function(torch.ops.equiprune.split, (whole, [*sizes, rest], dim))
    with graph.inserting_after(split):
        taken = {cut: graph.call_function(operator.getitem, (split, number)) for cut, number in pieces.items()}
    for node, cut in cuts.items():
        node.replace_all_uses_with(taken[cut])
        graph.erase_node(node)


def _concatenate(graph: fx.Graph, node: fx.Node) -> None:
    parts, dim = node.args[0], node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    with graph.inserting_after(node):
        new = graph.call_function(torch.ops.equiprune.concatenate, (parts, dim))
    node.replace_all_uses_with(new)
    graph.erase_node(node)


class _Split(torch.autograd.Function):
    """``torch.split`` whose gradient is one concatenation."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, sizes: list[int], dim: int) -> tuple[Tensor, ...]:
        ctx.dim = dim
        return torch.split(whole, sizes, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _Concatenate.apply(ctx.dim, *gradients), None, None


class _Concatenate(torch.autograd.Function):
    """``torch.cat`` whose gradient is one split."""

    @staticmethod
    def forward(ctx: Any, dim: int, *parts: Tensor) -> Tensor:
        ctx.dim, ctx.sizes = dim, [part.shape[dim] for part in parts]
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Split.apply(gradients[0], ctx.sizes, ctx.dim)


# Operators of torch's, because TorchScript calls no Python function.
_library = torch.library.Library("equiprune", "FRAGMENT")
_library.define("split(Tensor whole, int[] sizes, int dim) -> Tensor[]")
_library.define("concatenate(Tensor[] parts, int dim) -> Tensor")
_library.impl("split", lambda *given: list(_Split.apply(*given)), "CompositeImplicitAutograd")
_library.impl("concatenate", lambda parts, dim: _Concatenate.apply(dim, *parts), "CompositeImplicitAutograd")
