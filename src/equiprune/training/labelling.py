"""Labels from a teacher: structures with the energy, forces and stress that a model gives them.

A pruned model is retrained towards its parent without any pre-training data: the user's own structures, displaced and
strained, are labelled by the parent. Labels are written as ordinary calculator results, so that a teacher of another
architecture, in another environment, teaches through the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equiprune.errors import StructureError, TargetError
from equiprune.potential import Potential, batches
from equiprune.storage import Progress, silent


@dataclass(frozen=True)
class Augmentation:
    """Copies of each structure with random displacements and strains.

    Attributes:
        copies: per structure, besides the structure itself.
        rattle: standard deviation of each coordinate's displacement, Angstrom.
        strain: standard deviation of each component of the cell's deformation, for periodic structures.
        seed: of both.
    """

    copies: int = 0
    rattle: float = 0.1
    strain: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("copies", "rattle", "strain"):
            if not 0 <= getattr(self, name) < np.inf:
                raise TargetError(f"--{name} {getattr(self, name)} is not possible: give 0 or a positive number.")


def augmented(structures: Iterable[Atoms], augmentation: Augmentation) -> Iterator[Atoms]:
    """Each structure without its labels, followed by its distorted copies."""
    generator = np.random.default_rng(augmentation.seed)
    for atoms in structures:
        bare = _bare(atoms)
        yield bare
        for _ in range(augmentation.copies):
            yield _distorted(bare, augmentation, generator)


def _bare(atoms: Atoms) -> Atoms:
    """Without labels, which could be mistaken for the teacher's."""
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.info = {key: atoms.info[key] for key in ("config_type",) if key in atoms.info}
    return bare


def _distorted(atoms: Atoms, augmentation: Augmentation, generator: np.random.Generator) -> Atoms:
    copy = atoms.copy()
    if copy.pbc.all():
        deformation = np.eye(3) + augmentation.strain * generator.standard_normal((3, 3))
        copy.set_cell(copy.cell.array @ deformation, scale_atoms=True)
    copy.positions += augmentation.rattle * generator.standard_normal(copy.positions.shape)
    return copy


def label(
    teacher: Potential, structures: Iterable[Atoms], *, batch_atoms: int = 256, progress: Progress = silent
) -> Iterator[Atoms]:
    """Structures with the teacher's energy (eV), forces (eV/Angstrom) and stress (eV/Angstrom^3) as their only labels.

    ``info["teacher_sha256"]`` says whose they are, if the teacher has been saved.

    Raises:
        StructureError: unknown elements, or a label that is not finite.
    """
    for batch in batches(structures, batch_atoms):
        for atoms, prediction in zip(batch, teacher.predict(batch, batch_atoms), strict=True):
            results = {"energy": prediction.energy.item(), "forces": prediction.forces.double().cpu().numpy()}
            if atoms.pbc.all():
                results["stress"] = prediction.stress.double().cpu().numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            if not all(np.isfinite(value).all() for value in results.values()):
                raise StructureError(f"The teacher's labels of {atoms.get_chemical_formula()} are not finite numbers.")
            labelled = _bare(atoms)
            if teacher.checkpoint.sha256:  # an empty one would make an extxyz file unreadable
                labelled.info["teacher_sha256"] = teacher.checkpoint.sha256
            labelled.calc = SinglePointCalculator(labelled, **results)
            yield labelled
        progress(len(batch))
