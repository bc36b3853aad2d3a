"""Atomic reference energies and energy scale of SevenNet: ``rescale_atomic_energy`` (sevenn/nn/scale.py).

Both are one number, one per element, or one per head and element. Where they are fewer than what changes, each first
gets numbers of its own; upstream builds such models too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from equiprune.adapters.base import per_element
from equiprune.adapters.capabilities import Weights
from equiprune.adapters.sevennet.architecture import Rescale, SevenNetArchitecture

Constant = Literal["shift", "scale"]
Changed = tuple[SevenNetArchitecture, Weights]


def with_references(
    arch: SevenNetArchitecture, weights: Weights, changes: Mapping[int, float], head: str | None
) -> Changed:
    """Add to the shift of each element, for one head."""
    arch, weights = _one_for_each(arch, weights, "shift")
    shift = weights[_name("shift")].clone()
    _of_head(arch, shift, head).add_(per_element(arch, changes))
    return arch, {**weights, _name("shift"): shift}


def with_scale(arch: SevenNetArchitecture, weights: Weights, value: float, head: str | None) -> Changed:
    """Set the scale of every element, for one head."""
    arch, weights = _one_for_each(arch, weights, "scale")
    scale = weights[_name("scale")].clone()
    _of_head(arch, scale, head).fill_(value)
    return arch, {**weights, _name("scale"): scale}


def _name(constant: Constant) -> str:
    return f"rescale_atomic_energy.{constant}"


def _of_head(arch: SevenNetArchitecture, constant: Tensor, head: str | None) -> Tensor:
    """The row of a head, to be changed in place."""
    return constant[arch.heads.index(head or "")] if constant.ndim == 2 else constant


def _one_for_each(arch: SevenNetArchitecture, weights: Weights, constant: Constant) -> Changed:
    """The same function with a number of its own for each element, and for each head where there are several."""
    elements = len(arch.elements)
    if arch.rescale is Rescale.GLOBAL:  # upstream has both per element, or neither
        both = {_name(c): weights[_name(c)].expand(elements).clone() for c in ("shift", "scale")}
        return replace(arch, rescale=Rescale.PER_ELEMENT), {**weights, **both}
    if arch.heads and weights[_name(constant)].ndim == 1:
        use = replace(arch.head_use, **{constant: True})
        rows = weights[_name(constant)].expand(len(arch.heads), elements).clone()
        return replace(arch, head_use=use), {**weights, _name(constant): rows}
    return arch, weights
