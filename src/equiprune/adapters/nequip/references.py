"""Atomic reference energies and energy scale of NequIP: ``per_type_energy_scale_shift`` (nequip/nn/atomwise.py).

Both may be missing; upstream builds models with and without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from equiprune.adapters.base import per_element
from equiprune.adapters.capabilities import Weights
from equiprune.adapters.nequip.architecture import NequIPArchitecture
from equiprune.adapters.nequip.layouts import ENERGIES

Changed = tuple[NequIPArchitecture, Weights]


def with_references(
    arch: NequIPArchitecture, weights: Weights, changes: Mapping[int, float], _head: str | None
) -> Changed:
    """Add to the shift of each element."""
    name = f"{ENERGIES}.shifts"
    before = weights[name] if name in weights else torch.zeros(1, 1, dtype=torch.float64)
    return _with(arch, weights, "shifts", before + per_element(arch, changes)[:, None])


def with_scale(arch: NequIPArchitecture, weights: Weights, scale: float, _head: str | None) -> Changed:
    """Set the scale of every element."""
    return _with(arch, weights, "scales", torch.full((len(arch.elements), 1), scale, dtype=torch.float64))


def _with(arch: NequIPArchitecture, weights: Weights, constant: Literal["scales", "shifts"], values: Tensor) -> Changed:
    described = replace(getattr(arch, constant), given=True)
    return replace(arch, **{constant: described}), {**weights, f"{ENERGIES}.{constant}": values}
