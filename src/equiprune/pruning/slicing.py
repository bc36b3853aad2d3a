"""Pruning: from a potential and a plan to a smaller potential. See `equiprune.blocks.slicing` for one weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from equiprune.adapters import Checkpoint, ModelAdapter
from equiprune.adapters.capabilities import Rewrites
from equiprune.adapters.history import Pruned
from equiprune.blocks import PruningPlan, slice_weight
from equiprune.potentials.potential import Potential


def prune(potential: Potential, plan: PruningPlan, *, note: Mapping[str, Any] | None = None) -> Potential:
    """The smaller model that a plan leaves: an ordinary dense model of the same family.

    It agrees with ``masked(potential, plan)`` to rounding (energies, forces, stress), for any plan.

    Args:
        potential: left unchanged.
        plan: see `equiprune.pruning.allocation` for plans from targets.
        note: what asked for the plan; recorded in the provenance.

    Raises:
        PlanError: the plan does not fit, or the architecture cannot express what it leaves.
    """
    child = prune_checkpoint(potential.adapter, potential.checkpoint, plan, potential.dtype, note)
    head = potential.head if potential.head in child.architecture.heads else None
    if head is None and child.architecture.heads:
        head = child.architecture.heads[0]
    return Potential.create(potential.adapter, child, potential.dtype, head, potential.device)


def prune_checkpoint(
    adapter: ModelAdapter,
    checkpoint: Checkpoint,
    plan: PruningPlan,
    dtype: torch.dtype,
    note: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """`prune` on plain data, without building a module. The arguments are left unchanged."""
    plan.check(adapter.spaces(checkpoint.architecture))
    architecture = adapter.shrink(checkpoint.architecture, plan)
    parent, weights = checkpoint.architecture, checkpoint.weights
    if isinstance(adapter, Rewrites):
        parent, weights = adapter.rewrite_for_plan(parent, weights, plan)
    layouts = adapter.layouts(parent)
    named = {layout.identity or name: name for name, layout in layouts.items()}
    # Sliced in float64 and rounded once: a float64 model is exact, a float32 one correctly rounded.
    sliced = {}
    for name, layout in adapter.layouts(architecture).items():
        source = named[layout.identity or name]
        sliced[name] = slice_weight(weights[source].double(), layouts[source], layout, plan).to(dtype)
    return checkpoint.after(Pruned(plan, dtype, note or {}), sliced, architecture)
