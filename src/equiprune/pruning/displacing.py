"""Displaced copies of structures, and small steps from them along which features and energies change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from equiprune.potentials.potential import Potential, Prediction

RATTLE = 0.15
"""Largest displacement, standard deviation in Angstrom (docs/results.md, repair)."""
STEP = 0.01
"""Displacement along which features change, root mean square in Angstrom; a strain of a tenth of it goes with it."""
_FORCE_SCALE = 2.0
"""Force, root mean square in eV/Angstrom, with which a structure counts a quarter of what a relaxed one does: features
change the faster the larger the force, and a few squeezed structures would decide alone.
"""
LARGEST_FORCE = 10.0
"""Force, root mean square in eV/Angstrom, from which on a structure is displaced by less, or left out where it has such
forces as it is. Both are larger where half of the structures have forces above `_FORCE_SCALE`.
"""
LARGEST_FORCE_IN_WORDS = (
    f"{LARGEST_FORCE:g} eV/Angstrom, or {LARGEST_FORCE / _FORCE_SCALE:g} times the median, and more; root mean square"
)
_HALVINGS = 4
"""Times that a displacement is halved before a structure is left out."""


@dataclass(frozen=True)
class Displaced:
    """A displaced copy of a structure, without labels, what the parent predicts for it, and how much it counts."""

    atoms: Atoms
    found: Prediction
    weight: float

    def __len__(self) -> int:
        return len(self.atoms)


@dataclass(frozen=True)
class Step:
    """A small step of all atoms, (atoms, 3) in Angstrom, and a strain, (3, 3); half of both forward, half back."""

    displacement: np.ndarray
    strain: np.ndarray

    @classmethod
    def drawn(cls, atoms: Atoms, random: np.random.Generator) -> Step:
        displacement = random.normal(0, STEP, atoms.positions.shape)
        strain = random.normal(0, STEP / 10, (3, 3)) if atoms.pbc.all() else np.zeros((3, 3))
        return cls(displacement, (strain + strain.T) / 2)

    def ends(self, atoms: Atoms) -> tuple[Atoms, Atoms]:
        """The structure after half of the step, and before the other half."""
        forward, back = atoms.copy(), atoms.copy()
        for copy, sign in ((forward, 0.5), (back, -0.5)):
            copy.set_cell(copy.cell.array @ (np.eye(3) + sign * self.strain), scale_atoms=True)
            copy.positions += sign * self.displacement
        return forward, back

    def energy(self, of: Displaced) -> float:
        """Change of the energy along the step, eV, by forces and stress."""
        by_forces = -float((of.found.forces.double().cpu() * torch.as_tensor(self.displacement)).sum())
        if not of.atoms.pbc.all():
            return by_forces
        by_stress = float((of.found.stress.double().cpu() * torch.as_tensor(self.strain)).sum())
        return by_forces + of.atoms.cell.volume * by_stress


def displaced(
    single: Potential, structures: Sequence[Atoms], rattle: float, random: np.random.Generator
) -> list[Displaced | None]:
    """A copy of each structure, displaced by an amount of its own; None where its forces are too large.

    Where forces would be too large, a copy moves less.

    Args:
        single: the parent, in float32, which is enough for that.
        structures: to displace.
        rattle: largest standard deviation, Angstrom.
        random: of amounts and directions.
    """
    steps = [random.uniform(0, rattle) * random.normal(0, 1, atoms.positions.shape) for atoms in structures]
    moved = [_moved(atoms, step) for atoms, step in zip(structures, steps, strict=True)]
    found = single.predict(moved)
    forces = [_rms(each.forces) for each in found]
    scale = max(1.0, float(np.nanmedian(forces)) / _FORCE_SCALE)
    for halvings in range(1, _HALVINGS + 1):
        squeezed = [i for i, force in enumerate(forces) if not force < scale * LARGEST_FORCE]  # also where it is nan
        for i in squeezed:
            moved[i] = _moved(structures[i], steps[i] / 2**halvings)
        for i, again in zip(squeezed, single.predict([moved[i] for i in squeezed]), strict=True):
            found[i], forces[i] = again, _rms(again.forces)
    return [
        Displaced(atoms, each, (1 + force / (scale * _FORCE_SCALE)) ** -2) if force < scale * LARGEST_FORCE else None
        for atoms, each, force in zip(moved, found, forces, strict=True)
    ]


def _rms(forces: Tensor) -> float:
    """Root mean square in eV/Angstrom."""
    return forces.double().square().mean().sqrt().item()


def _moved(atoms: Atoms, step: np.ndarray) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions + step, cell=atoms.cell, pbc=atoms.pbc, info=dict(atoms.info))
