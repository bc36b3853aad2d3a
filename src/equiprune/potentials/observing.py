"""Submodules of a potential seen from outside: what goes into them and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from equiprune.potentials.potential import Potential
from equiprune.structures.graph import AtomicGraph


class _AllSeen(Exception):  # noqa: N818 (ends an evaluation; nothing is wrong)
    """Everything that was asked for has been evaluated."""


def observed(potential: Potential, graph: AtomicGraph, modules: Collection[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """First argument and result of submodules by name, without gradients.

    The evaluation ends when each of them was called, so that what comes first costs less than all.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(_module: object, given: tuple[Tensor, ...], result: Tensor) -> None:
            seen[name] = given[0], result
            if len(seen) == len(modules):
                raise _AllSeen

        return note

    if not modules:
        return seen
    handles = [potential.module.get_submodule(name).register_forward_hook(hook(name)) for name in modules]
    try:
        with torch.no_grad():
            potential.evaluate(graph)
    except _AllSeen:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return seen
