"""Physics that a potential claims, each as a measured violation in eV and Angstrom: nothing here needs a parent.

An architecture claims what it can: one that activates features on a grid no exact rotations, one whose forces are an
output of their own no gradient and no conserved energy, one that sees only the nearest neighbours no smoothness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase import Atoms

from equiprune.potentials.potential import Potential, Prediction


def compare(a: Potential, b: Potential, structures: Sequence[Atoms], name: str) -> dict[str, float]:
    """Largest absolute differences in energy, forces and, unless forces are an output of their own, stress."""
    worst = {"energy": 0.0, "forces": 0.0} | ({} if a.direct_forces else {"stress": 0.0})
    for x, y in zip(a.predict(structures), b.predict(structures), strict=True):
        for key in worst:
            worst[key] = nan_max(worst[key], getattr(x, key) - getattr(y, key))
    return {f"{name}.{key}": value for key, value in worst.items()}


def nan_max(worst: float, difference: torch.Tensor) -> float:
    """The larger of both; NaN where either is."""
    return float(np.maximum(worst, difference.abs().max().item()))


def _beside(tensor: torch.Tensor, numbers: np.ndarray) -> torch.Tensor:
    """Numbers in the precision and on the device of a tensor."""
    return torch.as_tensor(numbers).to(tensor)


def equivariance(potential: Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """Rotation and inversion (where the model claims them), permutation and translation of every structure."""
    generator, claims = np.random.default_rng(1), potential.architecture
    energy = forces = 0.0
    for atoms in structures:
        operations = _symmetries(len(atoms), claims.inversion, claims.exact_rotations, generator)
        reference, *moved = potential.predict([atoms, *(_moved(atoms, *operation) for operation in operations)])
        for prediction, (matrix, order, _) in zip(moved, operations, strict=True):
            energy = nan_max(energy, prediction.energy - reference.energy)
            expected = reference.forces[torch.as_tensor(order)] @ _beside(reference.forces, matrix.T)
            forces = nan_max(forces, prediction.forces - expected)
    return {"equivariance.energy": energy, "equivariance.forces": forces}


_Operation = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Orthogonal matrix, order of the atoms, translation."""


def _symmetries(atoms: int, inversion: bool, rotations: bool, generator: np.random.Generator) -> list[_Operation]:
    identity, same, still = np.eye(3), np.arange(atoms), np.zeros(3)
    operations = [(_rotation(generator), same, still) for _ in range(2 if rotations else 0)]
    operations.append((identity, generator.permutation(atoms), still))
    operations.append((identity, same, np.array([0.3, -1.1, 7.7])))
    return [*operations, (-identity, same, still)] if inversion else operations


def _moved(atoms: Atoms, matrix: np.ndarray, order: np.ndarray, translation: np.ndarray) -> Atoms:
    copy = atoms[order]
    copy.set_cell(atoms.cell.array @ matrix.T, scale_atoms=False)
    copy.positions = copy.positions @ matrix.T + translation
    return copy


def _rotation(generator: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(generator.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def finite_difference(potential: Potential, structures: Sequence[Atoms], step: float = 2e-4) -> dict[str, float]:
    """Forces and stress against differences of the energy along random directions (fourth order in ``step``).

    Relative where forces exceed 1 eV/Angstrom or stress 1 eV/Angstrom^3: strongly compressed atoms are no defect.
    """
    generator = np.random.default_rng(2)
    forces = stress = 0.0
    for atoms in structures:
        direction = generator.standard_normal(atoms.positions.shape)
        direction /= np.linalg.norm(direction)
        strain = generator.standard_normal((3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
        [reference] = potential.predict([atoms])
        by_position = _slope(potential, [_displaced(atoms, s * direction) for s in _stencil(step)], step)
        by_strain = _slope(potential, [_strained(atoms, s * strain) for s in _stencil(step)], step)
        in_forces = by_position + (reference.forces * _beside(reference.forces, direction)).sum()
        in_stress = by_strain / atoms.cell.volume - (reference.stress * _beside(reference.stress, strain)).sum()
        forces = nan_max(forces, in_forces / reference.forces.abs().max().clamp(min=1))
        stress = nan_max(stress, in_stress / reference.stress.abs().max().clamp(min=1))
    return {"finite_difference.forces": forces, "finite_difference.stress": stress}


def _stencil(step: float) -> tuple[float, ...]:
    return -2 * step, -step, step, 2 * step


def _slope(potential: Potential, at_stencil: Sequence[Atoms], step: float) -> torch.Tensor:
    e = [prediction.energy for prediction in potential.predict(at_stencil)]
    return (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)


def _displaced(atoms: Atoms, displacement: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.positions += displacement
    return copy


def _strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return copy


def smoothness(potential: Potential, structures: Sequence[Atoms], gap: float = 1e-6) -> dict[str, float]:
    """A dimer stretched across the cutoff: how much energy and forces jump within ``2 * gap`` Angstrom."""
    cutoff, numbers = potential.architecture.cutoff, structures[0].numbers[[0, -1]]
    inside, outside = potential.predict(
        [Atoms(numbers=numbers, positions=[[0, 0, 0], [0, 0, cutoff + d]]) for d in (-gap, gap)]
    )
    return {
        "smoothness.energy": nan_max(0.0, inside.energy - outside.energy),
        "smoothness.forces": nan_max(0.0, inside.forces - outside.forces),
    }


def batch_independence(potential: Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """A batch against each structure alone."""
    together = potential.predict(structures, batch_atoms=10**6)
    alone: list[Prediction] = [potential.predict([atoms])[0] for atoms in structures]
    energy = forces = 0.0
    for a, b in zip(together, alone, strict=True):
        energy, forces = nan_max(energy, a.energy - b.energy), nan_max(forces, a.forces - b.forces)
    return {"batch_independence.energy": energy, "batch_independence.forces": forces}


def isolated_atom(potential: Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """One atom in vacuum feels no force."""
    [prediction] = potential.predict([Atoms(numbers=structures[0].numbers[:1], positions=[[0.0, 0.0, 0.0]])])
    finite = prediction.energy.isfinite().item()
    return {"isolated_atom.forces": nan_max(0.0, prediction.forces) if finite else float("nan")}


def nve(potential: Potential, structures: Sequence[Atoms], steps: int, kelvin: float = 300.0) -> dict[str, float]:
    """Largest change of the total energy per atom in a short constant-energy run.

    Of the structure with the smallest forces: a run that begins in a strongly compressed one says nothing.
    """
    from ase.md.verlet import VelocityVerlet  # slow to import
    from ase.units import fs, kB

    forces = [prediction.forces.abs().max().item() for prediction in potential.predict(structures)]
    atoms = structures[int(np.argmin(forces))].copy()
    atoms.calc = potential.calculator()
    velocities = np.random.default_rng(3).standard_normal((len(atoms), 3))
    velocities *= np.sqrt(kB * kelvin / atoms.get_masses())[:, None]
    atoms.set_velocities(velocities - np.average(velocities, axis=0, weights=atoms.get_masses()))
    start, drift = atoms.get_total_energy(), 0.0
    if not np.isfinite(start):
        return {"nve.drift": float("nan")}
    # Vibrations quicken with the root of the lightest mass; the integrator's own error must stay below the limit.
    dynamics = VelocityVerlet(atoms, timestep=0.15 * np.sqrt(atoms.get_masses().min()) * fs)
    for _ in range(steps):
        if not np.isfinite(atoms.get_forces()).all():
            return {"nve.drift": float("nan")}
        dynamics.run(1)
        drift = float(np.maximum(drift, abs(atoms.get_total_energy() - start)))
    return {"nve.drift": drift / len(atoms)}


def rotation_error(potential: Potential, structures: Sequence[Atoms], rotations: int = 4) -> float:
    """Root mean square change of forces under random rotations, relative to their root mean square."""
    generator, changes, sizes = np.random.default_rng(5), 0.0, 0.0
    for atoms in structures:
        [reference] = potential.predict([atoms])
        for matrix in (_rotation(generator) for _ in range(rotations)):
            turned = _moved(atoms, matrix, np.arange(len(atoms)), np.zeros(3))
            expected = reference.forces @ _beside(reference.forces, matrix.T)
            changes += (potential.predict([turned])[0].forces - expected).square().sum().item()
            sizes += expected.square().sum().item()
    return float(np.sqrt(changes / sizes)) if sizes else float(changes > 0)


Check = Callable[..., dict[str, float]]

PHYSICS: tuple[Check, ...] = (equivariance, finite_difference, smoothness, batch_independence, isolated_atom, nve)
"""All of them, in the order of a certificate."""


def claims(potential: Potential) -> list[Check]:
    """The checks of physics that apply to an architecture."""
    arch, conservative = potential.architecture, not potential.direct_forces
    applies: dict[Check, bool] = {
        equivariance: True,
        finite_difference: conservative,
        smoothness: arch.max_neighbors is None,
        batch_independence: True,
        isolated_atom: arch.exact_rotations,
        nve: conservative,
    }
    return [check for check in PHYSICS if applies[check]]
