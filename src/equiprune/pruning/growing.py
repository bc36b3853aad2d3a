"""Adding to a model: more radial functions, a readout with a hidden layer. See `equiprune.adapters.growth`."""

from __future__ import annotations

from dataclasses import replace

import torch

from equiprune.adapters import Checkpoint, ModelAdapter
from equiprune.adapters.growth import Growth
from equiprune.files.settings import to_json
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
    architecture, grown = adapter.grow(checkpoint.architecture, weights, growth)
    step = {
        "step": "grow",
        "parent": checkpoint.source,
        "parent_sha256": checkpoint.sha256,
        "growth": to_json(growth),
        "dtype": str(dtype).removeprefix("torch."),
    }
    return replace(
        checkpoint,
        architecture=architecture,
        weights={name: weight.to(dtype) for name, weight in grown.items()},
        sha256="",
        history=(*checkpoint.history, step),
    )
