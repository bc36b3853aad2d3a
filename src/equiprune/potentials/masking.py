"""The reference semantics of a plan: what a sliced model must agree with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from equiprune.adapters import Taps
from equiprune.blocks import FeatureSpace, PruningPlan, Role, Site
from equiprune.potentials.potential import Potential, unchanged


def masked(potential: Potential, plan: PruningPlan) -> Potential:
    """The reference semantics of a plan: the unpruned module with removed blocks set to zero where they are produced.

    A pruned model must agree with this to rounding. Removed elements are refused; a removed head cannot be evaluated.

    Raises:
        PlanError: the plan does not fit.
    """
    plan.check(potential.spaces)
    taps = dict(potential.taps)
    for space in potential.spaces:
        if space.name in plan.masks and space.site is not Site.NONE:
            taps[space.name] = _masker(plan, space, potential.taps)
    species = {space.name for space in potential.spaces if space.role is Role.ELEMENTS}
    kept = {i for name in plan.masks.keys() & species for i in plan.masks[name].kept[0]}
    elements = potential.elements
    if kept:
        elements &= {z for i, z in enumerate(potential.architecture.elements) if i in kept}
    return replace(potential, taps=taps, elements=elements)


def _masker(plan: PruningPlan, space: FeatureSpace, before: Taps) -> Any:
    mask, earlier = plan.mask(space), before.get(space.name, unchanged)
    return lambda feature: earlier(feature) * mask.as_tensor(feature)
