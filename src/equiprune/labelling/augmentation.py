"""Copies of structures with random displacements and strains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from equiprune.errors import TargetError
from equiprune.files.settings import kind
from equiprune.labelling.unlabelled import without_labels


@kind("augmentation", "Augmentation")
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
                raise TargetError(f"`{name}` {getattr(self, name)} is not possible: give 0 or a positive number.")


def augmented(structures: Iterable[Atoms], augmentation: Augmentation, first: int = 0) -> Iterator[Atoms]:
    """Each structure without its labels, followed by its distorted copies.

    What is drawn for a structure depends on nothing but the seed and its place among the others, counted from
    ``first``.
    """
    for number, atoms in enumerate(structures, first):
        generator = np.random.default_rng([augmentation.seed, number])
        bare = without_labels(atoms)
        yield bare
        for _ in range(augmentation.copies):
            yield _distorted(bare, augmentation, generator)


def _distorted(atoms: Atoms, augmentation: Augmentation, generator: np.random.Generator) -> Atoms:
    copy = atoms.copy()
    if copy.pbc.all():
        deformation = np.eye(3) + augmentation.strain * generator.standard_normal((3, 3))
        copy.set_cell(copy.cell.array @ deformation, scale_atoms=True)
    copy.positions += augmentation.rattle * generator.standard_normal(copy.positions.shape)
    return copy
