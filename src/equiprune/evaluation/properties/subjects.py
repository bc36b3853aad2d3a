"""Subjects of measurements: structures with names that are their own, and the values that the data say they have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError, TargetError
from equiprune.evaluation.properties.outcomes import Value
from equiprune.structures.overlap import geometry

_NAMES = ("material_id", "id", "mat_id", "name")
"""Entries of ``info`` that say what a structure is called."""


@dataclass(frozen=True)
class Subject:
    """A structure to be measured.

    Attributes:
        name: unlike that of any other.
        atoms: in Angstrom, without a calculator.
        references: values that are known of it, by quantity, in the units of the quantities.
        distances: Angstrom, of a pair of atoms whose energies at these distances are compared.
    """

    name: str
    atoms: Atoms
    references: Mapping[str, Value] = field(default_factory=dict)
    distances: tuple[float, ...] = ()

    @property
    def digest(self) -> str:
        """A hash of everything: other atoms or other references have another."""
        said = json.dumps([self.name, geometry(self.atoms), dict(self.references), self.distances], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


def sampled(count: int, most: int | None, seed: int = 0) -> list[int]:
    """Numbers of so many structures, drawn at random, ascending; a larger sample holds a smaller one.

    >>> sampled(9, 3), sampled(9, 4), sampled(3, None)
    ([2, 4, 5], [2, 4, 5, 6], [0, 1, 2])

    Raises:
        TargetError: there are not so many.
    """
    if most is not None and most > count:
        raise TargetError(f"A `sample` of {most} cannot be drawn from {count} structures. Ask for fewer.")
    return sorted(np.random.default_rng(seed).permutation(count)[:most].tolist())


def named(structures: Sequence[Atoms], numbers: Sequence[int]) -> dict[str, Atoms]:
    """Some of the structures, without labels, by name: number and formula, and what the data call them.

    >>> list(named([Atoms("Cu"), Atoms("NaCl", info={"id": "mp-22862"})], [0, 1]))
    ['0 Cu', '1 ClNa mp-22862']

    Raises:
        StructureError: one has no atoms, or positions that are no numbers.
    """
    found = {}
    for number in numbers:
        atoms = structures[number]
        if len(atoms) == 0 or not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise StructureError(
                f"Structure {number} has no atoms, or positions or a cell that are not finite numbers. Leave it out."
            )
        called = next((f" {atoms.info[key]}" for key in _NAMES if key in atoms.info), "")
        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info)
        found[f"{number} {atoms.get_chemical_formula()}{called}"] = bare
    return found
