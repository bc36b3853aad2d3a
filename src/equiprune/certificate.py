"""What is exact, what was measured, on structures anyone can rebuild.

Two different claims are kept apart. *Exactness*: the pruned model equals the masked parent, in float64, to rounding;
and the file holds that model, rounded once to the precision it is stored in. *Physics*: the pruned model is still an
equivariant, conservative, smooth potential. Neither says that it is accurate: a pruned model needs retraining.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms

from equiprune.adapters import Checkpoint
from equiprune.adapters.growth import GrowRadialBasis, NativeGrids, NonlinearReadout
from equiprune.blocks import PruningPlan, Role
from equiprune.errors import TargetError
from equiprune.lineage import Step, merged, repeated, steps_since
from equiprune.potential import Potential, Prediction, masked
from equiprune.probes import element_structures, probe_structures
from equiprune.pruning.growing import grow
from equiprune.pruning.slicing import prune
from equiprune.storage import Progress, silent

LIMITS = {
    "masked_vs_sliced.energy": 1e-10,
    "masked_vs_sliced.forces": 1e-10,
    "masked_vs_sliced.stress": 1e-10,
    "stored_weights": 0.0,
    "equivariance.energy": 1e-9,
    "equivariance.forces": 1e-9,
    "finite_difference.forces": 1e-5,
    "finite_difference.stress": 1e-6,
    "smoothness.energy": 1e-6,
    "smoothness.forces": 1e-4,
    "batch_independence.energy": 1e-9,
    "batch_independence.forces": 1e-9,
    "isolated_atom.forces": 1e-9,
    "nve.drift": 1e-3,
    "rotations.of_parent": 2.0,
}
"""Largest value that passes, in the unit of `UNITS`."""

UNITS = {
    "energy": "eV",
    "forces": "eV/Angstrom",
    "stress": "eV/Angstrom^3",
    "drift": "eV/atom over the run",
    "stored_weights": "largest difference",
    "of_parent": "times the parent's relative error of forces",
}


@dataclass(frozen=True)
class Certificate:
    """Measured values by dotted name, e.g. ``masked_vs_sliced.energy``; absent where a claim does not apply."""

    values: Mapping[str, float]
    notes: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """True when every measured value is within its limit; NaN never is."""
        return all(value <= LIMITS[name] for name, value in self.values.items())

    def to_json(self) -> dict[str, Any]:
        """Nested by the dots of the names, with ``passed``, ``limits``, ``notes`` and ``facts``."""
        nested: dict[str, Any] = {}
        for name, value in self.values.items():
            group, _, leaf = name.partition(".")
            if leaf:
                nested.setdefault(group, {})[leaf] = value
            else:
                nested[group] = value
        limits = {name: LIMITS[name] for name in self.values}
        return {**nested, "passed": self.passed, "limits": limits, "notes": list(self.notes), **self.facts}

    def to_markdown(self) -> str:
        """The same as a page."""
        lines = ["# Certificate", "", f"**{'Passed' if self.passed else 'FAILED'}**", ""]
        lines += [f"- {key}: {value}" for key, value in self.facts.items()]
        lines += ["", "| check | value | limit | unit | |", "|---|---|---|---|---|"]
        for name, value in self.values.items():
            unit = UNITS[name.rpartition(".")[2]]
            verdict = "ok" if value <= LIMITS[name] else "**fails**"
            lines.append(f"| {name} | {value:.2g} | {LIMITS[name]:.0e} | {unit} | {verdict} |")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])


def certify(
    child: Potential, parent: Potential | None = None, *, nve_steps: int = 40, progress: Progress = silent
) -> Certificate:
    """Check a model, and that it is exactly its pruned parent if one is given. Everything is computed in float64.

    Args:
        child: the model to certify.
        parent: the model it was pruned from; recognised by sha256.
        nve_steps: length of the molecular-dynamics check, in steps of 0.15 fs for hydrogen, 0.5 fs for carbon.
        progress: called with 1 after each of the `CHECKS` groups.

    Raises:
        PlanError: ``child`` was not made from ``parent``.
    """
    structures = list(probe_structures(child.elements).values())
    values: dict[str, float] = {}
    notes = ["Exactness and physics only: whether the model is accurate is what 'equiprune evaluate' measures."]
    if parent is not None:
        exact, note = _exactness(child, parent, structures)
        values |= exact
        notes += note
    progress(1)
    child64, claimed = child.to(torch.float64), _claims(child)
    for check in (equivariance, finite_difference, smoothness, batch_independence, isolated_atom):
        values |= check(child64, structures) if check in claimed else {}
        progress(1)
    values |= nve(child64, structures, nve_steps) if nve in claimed else {}
    if not child.architecture.exact_rotations:
        found, said = _approximate_rotations(child64, parent, structures)
        values |= found
        notes.append(said)
    if unclaimed := [check.__name__ for check in _PHYSICS if check not in claimed]:
        notes.append(f"Not claimed by this architecture, so not checked: {', '.join(unclaimed)}.")
    progress(1)
    return Certificate(values, tuple(notes), _facts(child, parent, structures))


CHECKS = 7
"""How often `certify` reports progress."""


def _claims(potential: Potential) -> list[Any]:
    """The checks of physics that apply to an architecture."""
    arch, conservative = potential.architecture, not potential.adapter.direct_forces
    applies = {
        equivariance: True,
        finite_difference: conservative,
        smoothness: arch.max_neighbors is None,
        batch_independence: True,
        isolated_atom: arch.exact_rotations,
        nve: conservative,
    }
    return [check for check in _PHYSICS if applies[check]]


def _approximate_rotations(
    child64: Potential, parent: Potential | None, structures: Sequence[Atoms]
) -> tuple[dict[str, float], str]:
    """How much rotations change forces, beside the parent: pruning must not make that worse."""
    own = rotation_error(child64, structures)
    note = f"Rotations change forces by {own:.2g} of their size (values on a grid are activated)"
    if parent is None:
        return {}, f"{note}; give the parent to compare."
    before = rotation_error(parent.to(torch.float64), structures)
    return {"rotations.of_parent": own / before}, f"{note}, those of the parent by {before:.2g}."


def rotation_error(potential: Potential, structures: Sequence[Atoms], rotations: int = 4) -> float:
    """Root mean square change of forces under random rotations, relative to their root mean square."""
    generator, changes, sizes = np.random.default_rng(5), 0.0, 0.0
    for atoms in structures:
        [reference] = potential.predict([atoms])
        for matrix in (_rotation(generator) for _ in range(rotations)):
            turned = _moved(atoms, matrix, np.arange(len(atoms)), np.zeros(3))
            expected = reference.forces @ torch.as_tensor(matrix.T)
            changes += (potential.predict([turned])[0].forces - expected).square().sum().item()
            sizes += expected.square().sum().item()
    return float(np.sqrt(changes / sizes))


def _facts(child: Potential, parent: Potential | None, structures: Sequence[Atoms]) -> dict[str, Any]:
    facts = {
        "model": child.checkpoint.source,
        "model_sha256": child.checkpoint.sha256,
        "parameters": child.parameters(trainable_only=True),
        "dtype": "float64",
        "structures": [atoms.get_chemical_formula() for atoms in structures],
        "licence": child.checkpoint.licence,
    }
    if child.head is not None:
        facts["head"] = child.head
    if parent is not None:
        facts |= {"parent": parent.checkpoint.source, "parent_sha256": parent.checkpoint.sha256}
    return facts


def _exactness(child: Potential, parent: Potential, structures: Sequence[Atoms]) -> tuple[dict[str, float], list[str]]:
    steps = steps_since(child, parent)
    if steps is None:
        return {}, ["The model was trained after pruning, so it no longer equals its masked parent."]
    promises = merged(step for step, _ in steps)
    values: dict[str, float] = {}
    deviations: list[str] = []
    before = replace(parent.to(torch.float64), head=child.head or _kept_head(parent, promises))
    for step in promises:
        earlier = before
        before, difference = _one_step(earlier, step, [*structures, *_per_element(step, child)])
        if isinstance(step, NativeGrids):
            deviations.append(_deviation(earlier, before, structures))
        values = {name: float(np.maximum(value, values.get(name, 0.0))) for name, value in difference.items()} or values
    values["stored_weights"] = _stored_difference(child.checkpoint, repeated(parent, steps))
    times = "once" if len(steps) == 1 else "at every step"
    stored = str(next(iter(child.checkpoint.weights.values())).dtype).removeprefix("torch.")
    notes = [f"The file is compared with the exact float64 slice, rounded {times} to {stored}."]
    if drawn := [step for step in promises if isinstance(step, _DRAWN) and not step.preserve]:
        notes.append(f"Drawn anew, so equal to nothing of the parent's: {', '.join(map(repr, drawn))}.")
    return values, notes + deviations


_DRAWN = (GrowRadialBasis, NonlinearReadout)


def _deviation(before: Potential, after: Potential, structures: Sequence[Atoms]) -> str:
    """What a step changes that promises nothing."""
    found = compare(before, after, structures, "change")
    sizes = torch.cat([prediction.forces for prediction in before.predict(structures)])
    return (
        "Not exact: with upstream's own points on the sphere instead of the parent's, energies change by up to "
        f"{found['change.energy']:.2g} eV and forces by up to {found['change.forces']:.2g} eV/Angstrom (their root "
        f"mean square is {sizes.square().mean().sqrt():.2g})."
    )


def _one_step(before: Potential, step: Step, structures: Sequence[Atoms]) -> tuple[Potential, dict[str, float]]:
    """The model after a step, and how far it is from what the step promises, if it promises anything."""
    if isinstance(step, PruningPlan):
        after = prune(before, step)
        return after, compare(masked(before, step), after, structures, "masked_vs_sliced")
    after = grow(before, step)
    return after, compare(before, after, structures, "masked_vs_sliced") if step.preserve else {}


def _per_element(step: Step, child: Potential) -> list[Atoms]:
    """Structures with every element that is left, where elements were removed or reordered."""
    if not isinstance(step, PruningPlan):
        return []
    species = {space.name for space in child.spaces if space.role is Role.ELEMENTS}
    return element_structures(child.elements) if species & step.masks.keys() else []


def _stored_difference(stored: Checkpoint, exact: Checkpoint) -> float:
    """Largest difference of the weights; infinite where the hyperparameters differ already."""
    if stored.architecture != exact.architecture:
        return float("inf")
    worst = 0.0
    for name, weight in exact.weights.items():
        if weight.numel():
            held = stored.weights[name].cpu()
            worst = _larger(worst, held - weight.cpu().to(held.dtype))
    return worst


def _kept_head(parent: Potential, steps: Iterable[Step]) -> str | None:
    """The parent's head that is still there after the first plan that removes heads."""
    heads = parent.architecture.heads
    plan = next((s for s in steps if isinstance(s, PruningPlan) and "heads" in s.masks), None)
    if plan is None:
        return parent.head
    kept = plan.masks["heads"].kept[0]
    return parent.head if parent.head in {heads[i] for i in kept} else heads[kept[0]]


def compare(a: Potential, b: Potential, structures: Sequence[Atoms], name: str) -> dict[str, float]:
    """Largest absolute differences in energy, forces and, unless forces are an output of their own, stress."""
    worst = {"energy": 0.0, "forces": 0.0} | ({} if a.adapter.direct_forces else {"stress": 0.0})
    for x, y in zip(a.predict(structures), b.predict(structures), strict=True):
        for key in worst:
            worst[key] = _larger(worst[key], getattr(x, key) - getattr(y, key))
    return {f"{name}.{key}": value for key, value in worst.items()}


def prove_lossless(parent: Potential, plan: PruningPlan) -> dict[str, float]:
    """Largest differences between a model and what the plan leaves of it, in float64, over every head that is left.

    Raises:
        TargetError: they are not zero to rounding.
    """
    parent64 = parent.to(torch.float64)
    child64 = prune(parent64, plan)
    structures = [*probe_structures(child64.elements).values(), *_per_element(plan, child64)]
    proof: dict[str, float] = {}
    for head in child64.architecture.heads or (None,):
        before = replace(parent64, head=head or _kept_head(parent, [plan]))
        named = compare(before, replace(child64, head=head), structures, "lossless")
        found = {name.removeprefix("lossless."): value for name, value in named.items()}
        proof = {name: float(np.maximum(value, proof.get(name, 0.0))) for name, value in found.items()}
    if not all(value <= LIMITS["masked_vs_sliced.energy"] for value in proof.values()):
        differences = ", ".join(f"{name} {value:.2g}" for name, value in proof.items())
        raise TargetError(
            f"These targets together are not lossless; against the unpruned model they change: {differences}. Leave "
            "out --lossless, or the targets that remove more."
        )
    return proof


def _larger(worst: float, difference: torch.Tensor) -> float:
    """max that lets NaN through."""
    return float(np.maximum(worst, difference.abs().max().item()))


def equivariance(potential: Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """Rotation and inversion (where the model claims them), permutation and translation of every structure."""
    generator, claims = np.random.default_rng(1), potential.architecture
    energy = forces = 0.0
    for atoms in structures:
        operations = _symmetries(len(atoms), claims.inversion, claims.exact_rotations, generator)
        reference, *moved = potential.predict([atoms, *(_moved(atoms, *operation) for operation in operations)])
        for prediction, (matrix, order, _) in zip(moved, operations, strict=True):
            energy = _larger(energy, prediction.energy - reference.energy)
            expected = reference.forces[torch.as_tensor(order)] @ torch.as_tensor(matrix.T)
            forces = _larger(forces, prediction.forces - expected)
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
        in_forces = by_position + (reference.forces * torch.as_tensor(direction)).sum()
        in_stress = by_strain / atoms.cell.volume - (reference.stress * torch.as_tensor(strain)).sum()
        forces = _larger(forces, in_forces / reference.forces.abs().max().clamp(min=1))
        stress = _larger(stress, in_stress / reference.stress.abs().max().clamp(min=1))
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
        "smoothness.energy": _larger(0.0, inside.energy - outside.energy),
        "smoothness.forces": _larger(0.0, inside.forces - outside.forces),
    }


def batch_independence(potential: Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """A batch against each structure alone."""
    together = potential.predict(structures, batch_atoms=10**6)
    alone: list[Prediction] = [potential.predict([atoms])[0] for atoms in structures]
    energy = forces = 0.0
    for a, b in zip(together, alone, strict=True):
        energy, forces = _larger(energy, a.energy - b.energy), _larger(forces, a.forces - b.forces)
    return {"batch_independence.energy": energy, "batch_independence.forces": forces}


def isolated_atom(potential: Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """One atom in vacuum feels no force."""
    [prediction] = potential.predict([Atoms(numbers=structures[0].numbers[:1], positions=[[0.0, 0.0, 0.0]])])
    finite = prediction.energy.isfinite().item()
    return {"isolated_atom.forces": _larger(0.0, prediction.forces) if finite else float("nan")}


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


_PHYSICS = (equivariance, finite_difference, smoothness, batch_independence, isolated_atom, nve)
"""Checks that need no parent."""
