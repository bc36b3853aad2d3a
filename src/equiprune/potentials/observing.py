"""Submodules of a potential seen from outside: what goes into them and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
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
def _noted(
    potential: Potential, modules: Collection[str], note: Callable[[str, Tensor, Tensor], None]
) -> Iterator[None]:
    """Each of the submodules is noted when it is called."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _module, given, result: note(name, given[0], result)

    handles = [potential.module.get_submodule(name).register_forward_hook(hook(name)) for name in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
