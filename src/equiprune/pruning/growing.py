"""Adding to a model: more radial functions, a readout with a hidden layer. See `equiprune.adapters.growth`."""

from __future__ import annotations

import torch

from equiprune.adapters import Checkpoint, ModelAdapter
from equiprune.adapters.capabilities import Grows
from equiprune.adapters.growth import Growth
from equiprune.adapters.history import Grown
from equiprune.errors import TargetError
from equiprune.potentials.potential import Potential


def grow(potential: Potential, growth: Growth) -> Potential:
    """The larger model that a change makes; with ``preserve`` it predicts what the smaller one does, to rounding.

    Raises:
        TargetError: the architecture does not know the change, or has no room for it.
    """
    child = grow_checkpoint(potential.adapter, potential.checkpoint, growth, potential.dtype)
    return Potential.create(potential.adapter, child, potential.dtype, potential.head, potential.device)


def grow_checkpoint(adapter: ModelAdapter, checkpoint: Checkpoint, growth: Growth, dtype: torch.dtype) -> Checkpoint:
    """`grow` on plain data, without building a module. The arguments are left unchanged."""
    weights = {name: weight.double() for name, weight in checkpoint.weights.items()}
    if not isinstance(adapter, Grows):
        raise TargetError(f"{adapter.name} models cannot grow ({type(growth).__name__}). Leave that out.")
    architecture, grown = adapter.grow(checkpoint.architecture, weights, growth)
    cast = {name: weight.to(dtype) for name, weight in grown.items()}
    return checkpoint.after(Grown(growth, dtype), cast, architecture)
