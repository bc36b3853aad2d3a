"""Objectives of training: weighted sums of distances from labels, and from the features of a parent.

The distances are those of upstream recipes: mace/modules/loss.py (``WeightedEnergyForcesStressLoss``,
``UniversalLoss``) and sevenn/train/loss.py. A label that a structure lacks (NaN) takes no part.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from equiprune.errors import TargetError
from equiprune.files.settings import kind, to_json
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.labels import QUANTITIES

TERMS = (*QUANTITIES, "features")
"""All that an objective can weigh."""
_OF_ALL_RUNS = ("energy", "forces", "stress")
"""Quantities that the files of every run mention."""
KBAR = 1602.1766208
"""kbar in one eV/Angstrom^3; SevenNet's stress loss is in kbar."""


@dataclass(frozen=True)
class FeatureLabels:
    """Features of a parent in the places of its child's.

    Attributes:
        values: by space, (rows, child's irreps.dim); a row per atom, or blocks of such rows one after another.
        size: by space, how large they usually are.
    """

    values: Mapping[str, Tensor] = field(default_factory=dict)
    size: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelBatch:
    """Labels of a batch, NaN where there is none.

    =============  ====================  ===================================================
    field          shape                 unit
    =============  ====================  ===================================================
    energy         (structures,)         eV
    forces         (atoms, 3)            eV/Angstrom
    stress         (structures, 3, 3)    eV/Angstrom^3, ASE's sign
    hessian        (vectors, atoms, 3)   eV/Angstrom^2: products of the Hessian with vectors
    vectors        (vectors, atoms, 3)   none; zero where a structure has fewer than others
    fixed          (atoms,)              whether an atom is held where it is (ASE's FixAtoms)
    atom_energies  (atoms,)              eV, each atom's share of the energy
    features       see `FeatureLabels`   none; those of a parent, which no structure brings along
    =============  ====================  ===================================================
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    hessian: Tensor = field(default_factory=lambda: torch.empty(0, 0, 3))
    vectors: Tensor = field(default_factory=lambda: torch.empty(0, 0, 3))
    fixed: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    atom_energies: Tensor = field(default_factory=lambda: torch.empty(0))
    features: FeatureLabels = field(default_factory=FeatureLabels)

    def to(self, device: torch.device | str) -> LabelBatch:
        """The same labels elsewhere; features of a parent are made where they are needed."""
        tensors = {name: label for name, label in vars(self).items() if isinstance(label, Tensor)}
        return LabelBatch(**{name: label.to(device) for name, label in tensors.items()}, features=self.features)


class Distance(ABC):
    """Distance of predictions from labels; one number per component, or per vector, averaged later."""

    @abstractmethod
    def __call__(self, predicted: Tensor, label: Tensor) -> Tensor:
        """Element by element, same shape as both; or vector by vector, without their last dimension."""


@kind("square", "Square")
@dataclass(frozen=True)
class Square(Distance):
    """Squared difference."""

    def __call__(self, predicted: Tensor, label: Tensor) -> Tensor:
        return (predicted - label).square()


@kind("absolute", "Absolute")
@dataclass(frozen=True)
class Absolute(Distance):
    """Absolute difference."""

    def __call__(self, predicted: Tensor, label: Tensor) -> Tensor:
        return (predicted - label).abs()


@kind("norm", "Norm")
@dataclass(frozen=True)
class Norm(Distance):
    """Length of the difference of two vectors, in any frame the same.

    >>> Norm()(torch.tensor([[3.0, 0.0, 4.0]]), torch.zeros(1, 3))
    tensor([5.])
    """

    def __call__(self, predicted: Tensor, label: Tensor) -> Tensor:
        return torch.linalg.vector_norm(predicted - label, dim=-1)


@kind("huber", "Huber")
@dataclass(frozen=True)
class Huber(Distance):
    """Quadratic up to ``delta``, linear beyond.

    >>> Huber(0.1)(torch.tensor([0.06, 1.0]), torch.zeros(2))
    tensor([0.0018, 0.0950])
    """

    delta: float = 0.01

    def __call__(self, predicted: Tensor, label: Tensor) -> Tensor:
        return huber_loss(predicted, label, reduction="none", delta=self.delta)


@kind("conditional_huber", "ConditionalHuber")
@dataclass(frozen=True)
class ConditionalHuber(Distance):
    """Huber whose delta shrinks where the labelled force is large.

    1, 0.7, 0.4, 0.1 of it from 0, 100, 200, 300 eV/Angstrom (mace/modules/loss.py, ``conditional_huber_forces``).
    """

    delta: float = 0.01

    def __call__(self, predicted: Tensor, label: Tensor) -> Tensor:
        size = label.norm(dim=-1, keepdim=True)
        factors = torch.tensor([1.0, 0.7, 0.4, 0.1], dtype=label.dtype, device=label.device)
        bounds = torch.tensor([100.0, 200.0, 300.0], dtype=label.dtype, device=label.device)
        delta = self.delta * factors[torch.bucketize(size, bounds, right=True)]
        difference = (predicted - label).abs()
        return torch.where(difference <= delta, 0.5 * difference.square(), delta * (difference - 0.5 * delta))


@kind("term")
@dataclass(frozen=True)
class Term:
    """One part of the objective.

    Attributes:
        weight: zero leaves the quantity out.
        distance: between prediction and label.
        unit: both are multiplied by this first.
        six: of a stress, the mean goes over the 6 components that differ (SevenNet), not over all 9 (MACE).
        total: of an energy, that of the structure (Open Catalyst project), not per atom.
        free: of forces, those of atoms that may move alone (Open Catalyst project).
    """

    weight: float
    distance: Distance
    unit: float = 1.0
    six: bool = False
    total: bool = False
    free: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise TargetError(f"A weight of {self.weight} is not possible: give 0 or a positive number.")


@kind("feature_term")
@dataclass(frozen=True)
class FeatureTerm:
    """The part that a parent's features have in an objective.

    It is the square of the difference relative to the square of what the parent's features are, on average over atoms,
    components and spaces: 0.01 is an error of 10 %.

    Attributes:
        weight: zero leaves them out.
        block_by_block: every interaction starts from the parent's features instead of the model's own, so that each
            learns what its parent's does by itself.
    """

    weight: float = 0.0
    block_by_block: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise TargetError(f"A weight of {self.weight} is not possible: give 0 or a positive number.")

    def sum(self, predicted: Mapping[str, Tensor], labels: FeatureLabels, atoms: int) -> Sum:
        """The weighted sum over atoms; ``predicted`` has the features of each space under its name."""
        total = predicted["energy"].new_zeros(())
        for name, values in labels.values.items():
            total = total + ((predicted[name] - values) / labels.size[name]).square().mean()
        return Sum(self.weight * atoms * total / max(len(labels.values), 1), atoms)


NOT_WEIGHED = FeatureTerm()
"""Features take no part."""


@dataclass(frozen=True)
class Sum:
    """A sum and how many numbers went in; means are taken over all processes, so that they equal those of one."""

    total: Tensor
    count: int


@kind("objective", write=lambda objective: objective.fields())
@dataclass(frozen=True)
class Objective:
    """A term for each quantity; energies are per atom unless their term says otherwise.

    The Hessian's is that of table 8 of arXiv:2605.08885, as ASK-Berkeley/MLFF-distill computes it: with v the vectors
    drawn for a structure (rows of the Hessian are products with one-hot vectors), the mean over atoms and vectors of
    ``| (H v)_atom - (H_label v)_atom |``, the length of a difference in x, y and z.

    Attributes:
        energy, forces, stress, hessian, atom_energies: the terms. A pruned model shares its parent's way to divide an
            energy among atoms, so that each atom's share is a label of its own; a model trained by itself divides it
            in another way.
        hessian_samples: how many of a structure's vectors take part in a step; one more backward pass each.
        features: the part of a parent's features, which a pruned model shares where it kept them.
    """

    energy: Term
    forces: Term
    stress: Term = field(default_factory=lambda: Term(0.0, Square()))
    hessian: Term = field(default_factory=lambda: Term(0.0, Norm()))
    hessian_samples: int = 1
    atom_energies: Term = field(default_factory=lambda: Term(0.0, Huber()))
    features: FeatureTerm = field(default_factory=FeatureTerm)

    def __post_init__(self) -> None:
        if not self.weighted():
            raise TargetError("Every weight is 0, so there is nothing to train for. Give one a positive number.")
        if self.hessian_samples < 1:
            raise TargetError(f"{self.hessian_samples} Hessian vectors per step are not possible: give 1 or more.")

    def weighted(self) -> list[str]:
        """Terms that take part."""
        return [name for name in TERMS if getattr(self, name).weight > 0]

    def labelled(self) -> list[str]:
        """Quantities that take part, of which structures have labels."""
        return [name for name in self.weighted() if name in QUANTITIES]

    @property
    def derived(self) -> bool:
        """True where something that takes part is a derivative of the energy."""
        return any(term.weight > 0 for term in (self.forces, self.stress, self.hessian))

    def recorded(self) -> list[str]:
        """Terms that a run's files mention; those of teachers only where they take part."""
        return [name for name in TERMS if name in _OF_ALL_RUNS or getattr(self, name).weight > 0]

    def fields(self) -> dict[str, Any]:
        """Fields that a run records and compares; nothing depends on a teacher's term without a weight."""
        terms = {name: to_json(getattr(self, name)) for name in self.recorded()}
        return terms | ({"hessian_samples": self.hessian_samples} if "hessian" in terms else {})

    def sums(self, predicted: Mapping[str, Tensor], targets: LabelBatch, graph: AtomicGraph) -> dict[str, Sum]:
        """The weighted sum over labels of each quantity that takes part, and how many components went in."""
        atoms = torch.bincount(graph.structure_of_atom, minlength=graph.n_structures)
        size = torch.ones_like(atoms) if self.energy.total else atoms
        pairs: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
            "energy": lambda: (predicted["energy"] / size, targets.energy / size),
            "forces": lambda: (predicted["forces"], self._forces(targets)),
            "stress": lambda: (predicted["stress"], targets.stress),
            "atom_energies": lambda: (predicted["atom_energies"], targets.atom_energies),
            # atom by atom, since a structure may lack some of the vectors
            "hessian": lambda: (predicted["hessian"].reshape(-1, 3), targets.hessian.reshape(-1, 3)),
        }
        sums = {name: self._sum(getattr(self, name), *pairs[name]()) for name in self.labelled()}
        if self.features.weight > 0:
            sums["features"] = self.features.sum(predicted, targets.features, len(graph.positions))
        return sums

    def _forces(self, targets: LabelBatch) -> Tensor:
        return targets.forces.masked_fill(targets.fixed[:, None], math.nan) if self.forces.free else targets.forces

    def _sum(self, term: Term, predicted: Tensor, label: Tensor) -> Sum:
        if term.six:
            predicted, label = (stress[:, [0, 1, 2, 1, 2, 0], [0, 1, 2, 2, 0, 1]] for stress in (predicted, label))
        there = label.isfinite().reshape(len(label), math.prod(label.shape[1:])).all(-1)
        distance = term.distance(predicted[there] * term.unit, label[there] * term.unit)
        return Sum(term.weight * distance.sum(), distance.numel())


def mace_universal(forces: float = 10.0, stress: float = 1.0, energy: float = 1.0, delta: float = 0.01) -> Objective:
    """MACE's ``--loss universal``: Huber everywhere, gentler on very large forces."""
    return Objective(Term(energy, Huber(delta)), Term(forces, ConditionalHuber(delta)), Term(stress, Huber(delta)))


def mace_weighted(forces: float = 100.0, stress: float = 0.0, energy: float = 1.0) -> Objective:
    """MACE's ``--loss weighted`` and, with a stress weight, ``--loss stress``: mean squares."""
    return Objective(Term(energy, Square()), Term(forces, Square()), Term(stress, Square()))


def sevennet_huber(forces: float = 1.0, stress: float = 0.01, energy: float = 1.0, delta: float = 0.01) -> Objective:
    """SevenNet's recipe for its foundation models: Huber, stress in kbar."""
    stresses = Term(stress, Huber(delta), unit=KBAR, six=True)
    return Objective(Term(energy, Huber(delta)), Term(forces, Huber(delta)), stresses)


def open_catalyst(forces: float = 100.0, energy: float = 2.0) -> Objective:
    """The Open Catalyst project's: absolute error of the energy, length of the difference in forces of free atoms.

    Weights as in fairchem's configs/oc20/s2ef for eSCN; there both are in units of the data's own spread, which for
    OC20 is the same number for both.
    """
    return Objective(Term(energy, Absolute(), total=True), Term(forces, Norm(), free=True))
