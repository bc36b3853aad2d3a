"""Submodules of a potential from outside: what goes into them and what comes out, seen or multiplied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from equiprune.adapters import Outputs
from equiprune.potentials.potential import Potential
from equiprune.structures.graph import AtomicGraph

Seen = dict[str, tuple[Tensor, Tensor]]
"""First argument and result of submodules by name."""


class _AllSeen(Exception):  # noqa: N818 (ends an evaluation; nothing is wrong)
    """Everything that was asked for has been evaluated."""


def observed(potential: Potential, graph: AtomicGraph, modules: Collection[str]) -> Seen:
    """First argument and result of submodules by name, without gradients.

    The evaluation ends when each of them was called, so that what comes first costs less than all.
    """
    seen: Seen = {}

    def note(name: str, given: Tensor, result: Tensor) -> None:
        seen[name] = given, result
        if len(seen) == len(modules):
            raise _AllSeen

    if modules:
        with _noted(potential, modules, note), suppress(_AllSeen), torch.no_grad():
            potential.evaluate(graph)
    return seen


def evaluated(potential: Potential, graph: AtomicGraph, modules: Collection[str]) -> tuple[Seen, Outputs]:
    """The same, and what the potential gives in the end."""
    seen: Seen = {}

    def note(name: str, given: Tensor, result: Tensor) -> None:
        seen[name] = given, result

    with _noted(potential, modules, note), torch.no_grad():
        outputs = potential.evaluate(graph)
    return seen, outputs


@contextmanager
def multiplied(potential: Potential, factors: Mapping[str, Tensor]) -> Iterator[None]:
    """Results of submodules are multiplied by what is given for each, of the same shape or one that broadcasts."""

    def hook(factor: Tensor) -> Callable[..., Tensor]:
        return lambda _module, _given, result: result * factor

    with _hooked(potential, {name: hook(factor) for name, factor in factors.items()}):
        yield


@contextmanager
def _noted(
    potential: Potential, modules: Collection[str], note: Callable[[str, Tensor, Tensor], None]
) -> Iterator[None]:
    """Each of the submodules is noted when it is called."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _module, given, result: note(name, given[0], result)

    with _hooked(potential, {name: hook(name) for name in modules}):
        yield


@contextmanager
def _hooked(potential: Potential, hooks: Mapping[str, Callable[..., Tensor | None]]) -> Iterator[None]:
    handles = [potential.module.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
