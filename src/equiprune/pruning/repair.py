"""Repair: what pruning broke, mended in closed form before any training.

What is left of a pruned model still expects what was cut. Its parent shows what should come out of every linear map, on
the channels that were kept; what goes in is what the smaller model itself makes of the structures, so that each map
also makes up for what the maps before it could not. Every such matrix is the solution of a least-squares problem:

    minimise  |Y - X (W + A)|^2 + ridge |A|^2     for the change A of the weight W, per l, rows of all m together,

with X the inputs in the smaller model and Y the outputs in the parent. The same matrix serves all m, so that
equivariance stays. Two kinds of rows are counted alike: features, which make energies right, and their changes along
random displacements of all atoms and a random strain, which make forces and stress right. The ridge is chosen by
cross-validation over structures, the matrices are absorbed into the weights, and no label is needed.

Reconstruction of this kind is known from language models (OBC, arXiv 2208.11580; GRAIL, arXiv 2602.23795); rows of
changes are ours. Spaces that are linear on both sides are rotated first (`equiprune.pruning.rotation`), and radial
networks that lost neurons are fitted by themselves (`equiprune.pruning.radial_repair`). Then come gains of all maps at
once (`equiprune.pruning.gains`), and what is left of the atom energies of each element goes into its reference energy.

So that a common element does not decide alone, an atom counts by one over the square root of how many there are of its
element; so that a squeezed structure does not, its atoms count the less the larger its forces are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters import load_weights
from equiprune.adapters.capabilities import HasAtomicEnergies, Weights
from equiprune.adapters.history import Repaired
from equiprune.blocks import LinearMap, PruningPlan
from equiprune.blocks.linear_map import Mixing, inherited, matrix, mixings
from equiprune.errors import TargetError
from equiprune.potentials.observing import observed
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.pruning.gains import fitted_gains, with_gains
from equiprune.pruning.inheritance import head_of, plan_between
from equiprune.pruning.least_squares import NormalEquations, cross_validated, total
from equiprune.pruning.parent_view import FOLDS, RATTLE, ParentView, Sample, halves, maps_of, modules_of, summed
from equiprune.pruning.radial_repair import repair_radial_networks
from equiprune.pruning.rotation import rotated, spreads
from equiprune.structures.checks import check_structures

_FEW = 4
"""An element with so few atoms has its reference energy changed by half of what they say."""


WORTH = 0.9
"""Part of the error of forces that a repair may leave. Fitted weights that predict hardly better than the parent's are
a worse start for training (docs/results.md, MACE-MP-0 small twice as fast).
"""


class WorseError(TargetError):
    """A repair that would make forces worse, or so little better that it is not worth leaving the parent's weights."""


@dataclass(frozen=True)
class Disagreement:
    """Mean absolute differences from the parent: energy in meV/atom, forces in meV/Angstrom."""

    energy: float
    forces: float


@dataclass(frozen=True)
class Repair:
    """A repaired model.

    Attributes:
        potential: the model.
        before, after: how far it was from its parent, and is, on structures that had no part in the repair.
        maps: how many weights were changed.
        gains: number of channels with a gain; none where gains did not help.
        left_out: number of structures whose forces were too large (`ParentView.of`).
    """

    potential: Potential
    before: Disagreement
    after: Disagreement
    maps: int
    gains: int = 0
    left_out: int = 0


def repair(
    child: Potential,
    parent: Potential | ParentView,
    structures: Sequence[Atoms] = (),
    *,
    rattle: float = RATTLE,
    displacements: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Repair:
    """The pruned model with its linear maps fitted to what its parent makes of structures, without labels.

    Computed in float64 on the device of the child.

    Args:
        child: pruned from ``parent``; left unchanged.
        parent: the model it was pruned from, or what that makes of structures: then the others are left out.
        structures: see `ParentView.of`, as for ``rattle``, ``displacements`` and ``seed``.
        rattle: the largest displacement.
        displacements: how many times each structure is displaced.
        seed: of the displacements.
        progress: called with 1 after each of the `repair_steps`.

    Raises:
        TargetError: the architecture shows no linear maps, or ``child`` was not pruned from ``parent``.
        WorseError: the forces of the repaired model are not nearer to its parent's by a tenth at least.
        StructureError: too few structures, or some that the models cannot evaluate.
    """
    maps_of(child)  # refused before any work where there are none
    seen_by = parent.teacher if isinstance(parent, ParentView) else parent
    plan = plan_between(seen_by, child)
    if not isinstance(parent, ParentView):
        check_structures(structures, child.elements, inputs=child.architecture.global_inputs)
        headed = Potential.create(
            seen_by.adapter, seen_by.checkpoint, torch.float64, head_of(seen_by, child, plan), child.device
        )
        parent = ParentView.of(headed, structures, rattle=rattle, displacements=displacements, seed=seed)
    progress(1)
    own = Potential.create(child.adapter, child.checkpoint, torch.float64, child.head, child.device)
    before = _disagreement(own, parent.expected, parent.held_out)
    fitted, maps = _fitted(own, parent, plan, progress)
    gains = 0
    if parent.changes:
        fitted, gains = _with_gains(fitted, parent)
        progress(1)
    after = _disagreement(fitted, parent.expected, parent.held_out)
    _check_helped(before, after)
    return Repair(_repaired(child, fitted, parent.step), before, after, maps, gains, parent.left_out)


def _fitted(child: Potential, parent: ParentView, plan: PruningPlan, progress: Progress) -> tuple[Potential, int]:
    """The child in float64 with every map fitted, in the module that it is given, and how many those are."""
    start = rotated(child, parent.teacher, plan, spreads(parent))
    fitted = _loaded(child, start.weights)
    maps = [[linear for linear in group if linear.weight not in start.settled] for group in maps_of(child)]
    theirs = {linear.module: linear.last.outputs for group in maps_of(parent.teacher) for linear in group}

    def wanted(linear: LinearMap, features: Tensor) -> Tensor:
        return inherited(features, theirs[linear.module], linear.last.outputs, plan, start.mixtures)

    networks = repair_radial_networks(fitted, parent.teacher, parent.samples, plan)
    for group in maps:
        if group:
            _fit(fitted, group, parent.samples, wanted)
        progress(1)
    return _with_references(fitted, parent.samples), sum(map(len, maps)) + networks


def repair_steps(child: Potential) -> int:
    """Number of times that `repair` reports progress, from structures."""
    return 2 + len(maps_of(child))


# Structures.


def _disagreement(potential: Potential, expected: Sequence, structures: Sequence[Atoms]) -> Disagreement:
    found = potential.predict(structures)
    pairs = list(zip(found, expected, strict=True))
    energy = [float((own.energy - right.energy).abs()) / len(own.forces) for own, right in pairs]
    forces = torch.cat([(own.forces - right.forces).abs().flatten() for own, right in pairs])
    return Disagreement(1e3 * float(np.mean(energy)), 1e3 * float(forces.mean()))


def _check_helped(before: Disagreement, after: Disagreement) -> None:
    if after.forces <= WORTH * before.forces and np.isfinite(after.energy):
        return
    helped = "hardly better" if after.forces < before.forces else "worse"
    raise WorseError(
        f"The repair made forces {helped} on the structures that were held out: {after.forces:.4g} meV/Angstrom from "
        f"the parent's, {before.forces:.4g} before. The model stays as it is, which is the better start for training. "
        "Give more structures, or some of the chemistry that the model is for."
    )


# Features.

_Wanted = Callable[[LinearMap, Tensor], Tensor]
"""Results that a map of the smaller model should have, made of those of the parent's."""


def _fit(fitted: Potential, group: Sequence[LinearMap], samples: Sequence[Sample], wanted: _Wanted) -> None:
    """Change the weights of a group of maps, in place, to what explains the parent's outputs best."""
    layouts, parameters = fitted.adapter.layouts(fitted.architecture), dict(fitted.module.named_parameters())
    matrices = {linear.module: list(mixings(linear, layouts[linear.weight])) for linear in group}
    folds: defaultdict[tuple[str, int], list[list[_Kinds]]] = defaultdict(lambda: [[] for _ in range(FOLDS)])
    names = modules_of(group)
    for sample in samples:
        seen = observed(fitted, sample.graph, names)
        for linear in group:
            right, given = wanted(linear, sample.outputs[linear.module]), seen[linear.module][0]
            missing = right - summed(seen, linear)
            for i, mixing in enumerate(matrices[linear.module]):
                y, of = (_outputs(linear, mixing, features) for features in (missing, right))
                kinds = _kinds(sample.counts, mixing.inputs(given), y, of)
                folds[linear.module, i][sample.fold].append(kinds)
    for linear in group:
        layout, stored = layouts[linear.weight], parameters[linear.weight]
        blocks = layout.split(stored.detach().clone())
        for i, mixing in enumerate(matrices[linear.module]):
            change = cross_validated(_balanced(folds[linear.module, i]))
            if linear.onward is not None:
                onward = linear.onward.weight
                change = change @ torch.linalg.pinv(matrix(linear.onward, layouts[onward], parameters[onward].detach()))
            blocks = mixing.changed(blocks, change)
        with torch.no_grad():
            stored.copy_(layout.join(blocks))


def _outputs(linear: LinearMap, mixing: Mixing, features: Tensor) -> Tensor:
    """Rows of one irrep (2 * atoms * m, channels); the scalars of a map onward as they are."""
    return features if linear.onward is not None else mixing.outputs(features)


@dataclass(frozen=True)
class _Kinds:
    """Rows of features and rows of their changes, and how large what should come out is in each."""

    features: NormalEquations
    changes: NormalEquations
    sizes: tuple[float, float]


def _kinds(counts: Tensor, given: Tensor, missing: Tensor, wanted: Tensor) -> _Kinds:
    """Equations for what is missing, from rows of inputs, of what is missing and of what should come out."""
    by = counts.sqrt().repeat_interleave(len(given) // len(counts))[:, None]
    (x_mean, x_step), (y_mean, y_step), (mean, step) = (halves(by * rows) for rows in (given, missing, wanted))
    sizes = float(mean.square().sum()), float(step.square().sum())
    return _Kinds(NormalEquations.of(x_mean, y_mean), NormalEquations.of(x_step, y_step), sizes)


def _balanced(folds: Sequence[Sequence[_Kinds]]) -> list[NormalEquations]:
    """Equations of each fold that has structures, features and changes counted alike by their size over all folds."""
    every = [kinds for fold in folds for kinds in fold]
    sizes = [sum(kinds.sizes[kind] for kinds in every) or 1.0 for kind in (0, 1)]
    return [
        total([kinds.features for kinds in fold]).counted(1 / sizes[0])
        + total([kinds.changes for kinds in fold]).counted(1 / sizes[1])
        for fold in folds
        if fold
    ]


def _weights(fitted: Potential) -> dict[str, Tensor]:
    """All weights, those of the module's parameters as they are by now."""
    found = {name: parameter.detach().clone().cpu() for name, parameter in fitted.module.named_parameters()}
    return {**fitted.checkpoint.weights, **found}


def _with_references(fitted: Potential, samples: Sequence[Sample]) -> Potential:
    """The fitted model, with the mean of what is left of each element's atom energies in its reference energy."""
    adapter = fitted.adapter
    weights: Weights = _weights(fitted)
    if isinstance(adapter, HasAtomicEnergies):
        missing, atoms = torch.zeros(2, 120, dtype=torch.float64, device=fitted.device)
        for sample in samples:
            with torch.no_grad():
                left = sample.atom_energies - fitted.evaluate(sample.graph).atom_energies
            missing.index_add_(0, sample.graph.numbers, sample.weights * left)
            atoms.index_add_(0, sample.graph.numbers, sample.weights)
        mean = missing / (atoms + _FEW)
        changes = {z: float(mean[z]) for z in fitted.architecture.elements}
        _, weights = adapter.with_references(fitted.architecture, weights, changes, fitted.head)
    return _loaded(fitted, weights)


def _with_gains(fitted: Potential, parent: ParentView) -> tuple[Potential, int]:
    """The fitted model with gains where the structures that were held out say so, and the number of gains.

    The product of the errors of energies and forces is to fall.
    """
    without = _disagreement(fitted, parent.expected, parent.held_out)
    gains = fitted_gains(fitted.with_dtype(torch.float32), parent.changes)
    changed = with_gains(fitted, fitted.checkpoint.weights, gains)
    scaled = _with_references(_loaded(fitted, changed), parent.samples)
    within = _disagreement(scaled, parent.expected, parent.held_out)
    better = within.energy * within.forces < without.energy * without.forces
    if not better:
        return _loaded(fitted, fitted.checkpoint.weights), 0
    return scaled, sum(len(gain) for gain in gains.values())


def _loaded(own: Potential, weights: Weights) -> Potential:
    """The potential with these weights in its module, which is changed: building another one would take longer."""
    load_weights(own.module, weights)
    return replace(own, checkpoint=replace(own.checkpoint, weights=weights))


def _repaired(child: Potential, fitted: Potential, step: Repaired) -> Potential:
    """The child with the fitted weights, in its own precision."""
    own = child.checkpoint.weights
    weights = {name: fitted.checkpoint.weights[name].to(weight.dtype) for name, weight in own.items()}
    return Potential.create(child.adapter, child.checkpoint.after(step, weights), child.dtype, child.head, child.device)
