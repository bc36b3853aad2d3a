"""Atomic reference energies and energy scale of MACE: ``atomic_energies`` and ``scale_shift``, per head."""

from __future__ import annotations

from collections.abc import Mapping

from equiprune.adapters.base import per_element
from equiprune.adapters.capabilities import Weights
from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.errors import TargetError

_ENERGIES, _SCALE = "atomic_energies_fn.atomic_energies", "scale_shift.scale"

Changed = tuple[MaceArchitecture, Weights]


def with_references(
    arch: MaceArchitecture, weights: Weights, changes: Mapping[int, float], head: str | None
) -> Changed:
    """Add to the atomic energies of one head."""
    energies = weights[_ENERGIES].clone()
    energies.view(-1, len(arch.elements))[_row(arch, head)].add_(per_element(arch, changes))
    return arch, {**weights, _ENERGIES: energies}


def with_scale(arch: MaceArchitecture, weights: Weights, value: float, head: str | None) -> Changed:
    """Set the scale of one head."""
    if not arch.scale_shift:
        raise TargetError("This MACE has no energy scale (it is no ScaleShiftMACE). Keep it as it is.")
    scale = weights[_SCALE].clone()
    scale.view(-1)[_row(arch, head)] = value
    return arch, {**weights, _SCALE: scale}


def _row(arch: MaceArchitecture, head: str | None) -> int:
    return arch.heads.index(head or "") if arch.heads else 0
