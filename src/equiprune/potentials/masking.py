"""The reference semantics of a plan: what a sliced model must agree with."""

from __future__ import annotations

from dataclasses import replace

from equiprune.blocks import PruningPlan, Role, Site
from equiprune.potentials.potential import Potential


def masked(potential: Potential, plan: PruningPlan) -> Potential:
    """The reference semantics of a plan: the unpruned module with removed blocks set to zero where they are produced.

    A pruned model must agree with this to rounding. Removed elements are refused; a removed head cannot be evaluated.

    Raises:
        PlanError: the plan does not fit.
    """
    plan.check(potential.spaces)
    seen = {space.name for space in potential.spaces if space.site is not Site.NONE}
    taps = potential.taps.masked({name: mask for name, mask in plan.masks.items() if name in seen})
    species = {space.name for space in potential.spaces if space.role == Role.ELEMENTS}
    kept = {i for name in plan.masks.keys() & species for i in plan.masks[name].kept[0]}
    elements = potential.elements
    if kept:
        elements &= {z for i, z in enumerate(potential.architecture.elements) if i in kept}
    return replace(potential, taps=taps, elements=elements)
