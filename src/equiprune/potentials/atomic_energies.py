"""Atomic reference energies of a model: what it gives for one atom alone, and models in which they are others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from equiprune.adapters.capabilities import HasAtomicEnergies
from equiprune.adapters.history import ReferencesChanged, Step
from equiprune.errors import TargetError
from equiprune.potentials.potential import Potential
from equiprune.structures.batching import batches

BATCH_ATOMS = 64
"""Few: this must not take more memory than the training that follows."""


def energies(potential: Potential, structures: Sequence[Atoms]) -> np.ndarray:
    """Energies (structures,) in eV, evaluated in the potential's own precision; no forces."""
    with torch.no_grad():
        found = [
            potential.energies(potential.graph(b)).double().cpu().numpy() for b in batches(structures, BATCH_ATOMS)
        ]
    return np.concatenate(found)


def isolated_energies(potential: Potential, elements: Sequence[int]) -> dict[int, float]:
    """Energies of single atoms in vacuum, eV by atomic number."""
    if not elements:
        return {}
    alone = [Atoms(numbers=[z], positions=[[0.0, 0.0, 0.0]]) for z in elements]
    return dict(zip(elements, energies(potential, alone).tolist(), strict=True))


def with_references(potential: Potential, changes: Mapping[int, float], how: str) -> Potential:
    """The potential with ``changes[Z]`` eV added to every atom of element Z; ``how`` is recorded in its history.

    Raises:
        TargetError: the architecture has no place for them, or an element is unknown.
    """
    named = {chemical_symbols[z]: change for z, change in sorted(changes.items())}
    weights = {name: weight.double() for name, weight in potential.checkpoint.weights.items()}
    if not isinstance(potential.adapter, HasAtomicEnergies):
        raise TargetError(
            f"{potential.adapter.name} models have no atomic reference energies that could change. Keep them."
        )
    made = potential.adapter.with_references(potential.architecture, weights, changes, potential.head)
    return rebuilt(potential, ReferencesChanged(how, potential.head, named), *made)


def rebuilt(potential: Potential, step: Step, architecture: Any, weights: Any) -> Potential:
    """The potential of other hyperparameters and weights, in its own precision; ``step`` goes into its history."""
    cast = {name: weight.to(potential.dtype) for name, weight in weights.items()}
    after = potential.checkpoint.after(step, cast, architecture)
    return Potential.create(potential.adapter, after, potential.dtype, potential.head, potential.device)


def reference_steps(potential: Potential) -> list[Mapping[str, Any]]:
    """Recorded changes of references and scale: a run of others is another run."""
    return [step for step in potential.checkpoint.history if step["step"] == ReferencesChanged.name]
