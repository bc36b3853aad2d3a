"""Certificates: what is exact and what was measured, on structures anyone can rebuild.

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
from equiprune.adapters.history import Repaired
from equiprune.adapters.precision import dtype_name
from equiprune.blocks import PruningPlan, Role
from equiprune.errors import TargetError
from equiprune.potentials.masking import masked
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.pruning.growing import grow
from equiprune.pruning.slicing import prune
from equiprune.structures.probes import element_structures, probe_structures
from equiprune.verification.lineage import Step, lineage, merged, repeated
from equiprune.verification.measurement import HEADS, Measurement
from equiprune.verification.physics import (
    PHYSICS,
    batch_independence,
    claims,
    compare,
    equivariance,
    finite_difference,
    isolated_atom,
    nan_max,
    nve,
    rotation_error,
    smoothness,
)

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
    """Values that were checked, and numbers that other commands measured of the same model.

    Attributes:
        values: by dotted name, e.g. ``masked_vs_sliced.energy``; absent where a claim does not apply.
        notes: sentences beside them.
        facts: what was checked.
        measured: errors, speed, dynamics, properties of the model, as other commands found them.
    """

    values: Mapping[str, float]
    notes: tuple[str, ...]
    facts: Mapping[str, Any]
    measured: tuple[Measurement, ...] = ()

    @property
    def passed(self) -> bool:
        """True when every value is within its limit, NaN never is, and no other command's verdict is against it."""
        within = all(value <= LIMITS[name] for name, value in self.values.items())
        return within and all(each.passed is not False for each in self.measured)

    def to_json(self) -> dict[str, Any]:
        """Nested by the dots of the names, with ``passed``, ``limits``, ``notes``, ``measured`` and ``facts``."""
        nested: dict[str, Any] = {}
        for name, value in self.values.items():
            group, _, leaf = name.partition(".")
            if leaf:
                nested.setdefault(group, {})[leaf] = value
            else:
                nested[group] = value
        limits = {name: LIMITS[name] for name in self.values}
        measured = {"measured": [each.to_json() for each in self.measured]} if self.measured else {}
        return {**nested, "passed": self.passed, "limits": limits, "notes": list(self.notes), **measured, **self.facts}

    def to_markdown(self) -> str:
        """The same as a page."""
        lines = ["# Certificate", "", f"**{'Passed' if self.passed else 'FAILED'}**", ""]
        lines += [f"- {key}: {value}" for key, value in self.facts.items()]
        lines += ["", "| check | value | limit | unit | |", "|---|---|---|---|---|"]
        for name, value in self.values.items():
            unit = UNITS[name.rpartition(".")[2]]
            verdict = "ok" if value <= LIMITS[name] else "**fails**"
            lines.append(f"| {name} | {value:.2g} | {LIMITS[name]:.0e} | {unit} | {verdict} |")
        if self.measured:
            lines += ["", f"| {' | '.join(HEADS)} |", "|---|---|---|---|---|---|"]
            lines += [f"| {' | '.join(cell.replace('|', '/') for cell in each.row())} |" for each in self.measured]
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
    child64, claimed = child.with_dtype(torch.float64), claims(child)
    for check in (equivariance, finite_difference, smoothness, batch_independence, isolated_atom):
        values |= check(child64, structures) if check in claimed else {}
        progress(1)
    values |= nve(child64, structures, nve_steps) if nve in claimed else {}
    if not child.architecture.exact_rotations:
        found, said = _approximate_rotations(child64, parent, structures)
        values |= found
        notes.append(said)
    notes += child.architecture.remarks
    if unclaimed := [check.__name__ for check in PHYSICS if check not in claimed]:
        notes.append(f"Not claimed by this architecture, so not checked: {', '.join(unclaimed)}.")
    progress(1)
    return Certificate(values, tuple(notes), _facts(child, parent, structures))


CHECKS = 1 + len(PHYSICS)
"""How often `certify` reports progress."""


def _approximate_rotations(
    child64: Potential, parent: Potential | None, structures: Sequence[Atoms]
) -> tuple[dict[str, float], str]:
    """Change of the forces by rotations, beside the parent's: pruning must not make it worse."""
    own = rotation_error(child64, structures)
    note = f"Rotations change forces by {own:.2g} of their size (values on a grid are activated)"
    if parent is None:
        return {}, f"{note}; give the parent to compare."
    before = rotation_error(parent.with_dtype(torch.float64), structures)
    return {
        "rotations.of_parent": own / before if before else float(own > 0)
    }, f"{note}, those of the parent by {before:.2g}."


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
    way = lineage(child, parent)
    repaired = set(way.afterwards) == {Repaired.name}
    if way.afterwards and not repaired:
        return {}, ["The model was trained after pruning, so it no longer equals its masked parent."]
    steps = way.steps
    promises = merged(step for step, _ in steps)
    values: dict[str, float] = {}
    deviations: list[str] = []
    before = replace(parent.with_dtype(torch.float64), head=child.head or _kept_head(parent, promises))
    for step in promises:
        earlier = before
        before, difference = _one_step(earlier, step, [*structures, *_per_element(step, child)])
        if isinstance(step, NativeGrids):
            deviations.append(deviation(earlier, before, structures))
        values = {name: float(np.maximum(value, values.get(name, 0.0))) for name, value in difference.items()} or values
    if repaired:
        return values, [_REPAIRED, *deviations]
    values["stored_weights"] = _stored_difference(child.checkpoint, repeated(parent, steps))
    times = "once" if len(steps) == 1 else "at every step"
    stored = dtype_name(child.checkpoint.dtype)
    notes = [f"The file is compared with the exact float64 slice, rounded {times} to {stored}."]
    if drawn := [step for step in promises if isinstance(step, _DRAWN) and not step.preserve]:
        notes.append(f"Drawn anew, so equal to nothing of the parent's: {', '.join(map(repr, drawn))}.")
    return values, notes + deviations


_REPAIRED = (
    "The model was repaired after pruning: linear maps were fitted to its parent's features, so that it no longer "
    "equals its masked parent. What is compared with that is the slice that was repaired, made again."
)
_DRAWN = (GrowRadialBasis, NonlinearReadout)


def deviation(before: Potential, after: Potential, structures: Sequence[Atoms]) -> str:
    """A sentence on how far other points on the sphere take a model; both in float64."""
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
    species = {space.name for space in child.spaces if space.role == Role.ELEMENTS}
    return element_structures(child.elements) if species & step.masks.keys() else []


def _stored_difference(stored: Checkpoint, exact: Checkpoint) -> float:
    """Largest difference of the weights; infinite where the hyperparameters differ already."""
    if stored.architecture != exact.architecture:
        return float("inf")
    worst = 0.0
    for name, weight in exact.weights.items():
        if weight.numel():
            held = stored.weights[name].cpu()
            worst = nan_max(worst, held - weight.cpu().to(held.dtype))
    return worst


def _kept_head(parent: Potential, steps: Iterable[Step]) -> str | None:
    """The parent's head that is still there after the first plan that removes heads."""
    heads = parent.architecture.heads
    plan = next((s for s in steps if isinstance(s, PruningPlan) and "heads" in s.masks), None)
    if plan is None:
        return parent.head
    kept = plan.masks["heads"].kept[0]
    return parent.head if parent.head in {heads[i] for i in kept} else heads[kept[0]]


def prove_lossless(parent: Potential, plan: PruningPlan) -> dict[str, float]:
    """Largest differences between a model and what the plan leaves of it, in float64, over every head that is left.

    Raises:
        TargetError: they are not zero to rounding.
    """
    parent64 = parent.with_dtype(torch.float64)
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
            "out `lossless`, or the targets that remove more."
        )
    return proof
