"""Atomic reference energies and energy scale of Nequix: a buffer by element, and a number of the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from equiprune.adapters.base import per_element
from equiprune.adapters.capabilities import Weights
from equiprune.adapters.nequix.architecture import NequixArchitecture


def with_references(
    arch: NequixArchitecture, weights: Weights, changes: Mapping[int, float], _head: str | None
) -> tuple[NequixArchitecture, Weights]:
    """Add to the atomic reference energy of each element."""
    return arch, {**weights, "atom_energies": weights["atom_energies"] + per_element(arch, changes)}


def with_scale(
    arch: NequixArchitecture, weights: Weights, scale: float, _head: str | None
) -> tuple[NequixArchitecture, Weights]:
    """Set what the readout is multiplied by, in eV."""
    return replace(arch, scale=scale), weights
