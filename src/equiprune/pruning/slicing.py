"""Pruning: from a potential and a plan to a smaller potential. See `equiprune.blocks.weight_slicing` for one weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from equiprune.blocks import PruningPlan, slice_weight
from equiprune.potential import Potential


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
    plan.check(potential.spaces)
    adapter, old = potential.adapter, potential.checkpoint
    architecture = adapter.shrink(old.architecture, plan)
    parent, weights = adapter.absorb(old.architecture, old.weights, plan)
    layouts = adapter.weight_layouts(parent)
    # Sliced in float64 and rounded once: a float64 potential is exact, a float32 one correctly rounded.
    sliced = {
        name: slice_weight(weights[name].double(), layouts[name], layout, plan).to(potential.dtype)
        for name, layout in adapter.weight_layouts(architecture).items()
    }
    step = {"step": "prune", "parent_sha256": old.sha256, "parent": old.source, "plan": plan.to_json(), **(note or {})}
    child = replace(old, architecture=architecture, weights=sliced, sha256="", history=(*old.history, step))
    head = potential.head if potential.head in architecture.heads else None
    return Potential.create(adapter, child, potential.dtype, head, potential.device)
