"""Locality and extensivity: what is far apart is not felt, and twice as much has twice the energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import covalent_radii

from equiprune.errors import TargetError
from equiprune.evaluation.properties.outcomes import UnmeasurableError, Values, Why
from equiprune.evaluation.properties.quantity import Model, Property, Quantity, Relaxed
from equiprune.evaluation.properties.subjects import Subject
from equiprune.files.settings import kind

_FELT = 1e-6
"""eV/Angstrom, from which a change of a force counts as felt."""
_MOVED = np.array([0.05, 0.08, 0.03])
"""Angstrom, by which an atom is moved."""


@kind("locality")
@dataclass(frozen=True)
class Locality(Property):
    """Violations of locality and extensivity, which a potential of neighbours within a cutoff has only by rounding.

    A gap wider than the cutoff lets nothing through, however many interactions follow one another. Along a chain
    without gaps an atom is felt from atom to atom: its energy depends on atoms within interactions x cutoff, and its
    force on atoms within twice that. How far an atom is really felt is measured.

    Attributes:
        gap: width of the gap, cutoffs.
        chain: length, Angstrom, of a chain of the structure's elements; an atom that is felt to its end has this reach.
    """

    name: ClassVar[str] = "locality"
    needs_stress: ClassVar[bool] = False
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("extensivity", "two cells against one", "meV/atom"),
        Quantity("additivity", "two clusters against one", "meV/atom"),
        Quantity("felt", "force felt across the gap", "meV/Angstrom"),
        Quantity("reach", "reach along a chain", "Angstrom"),
    )

    gap: float = 1.5
    chain: float = 60.0

    def __post_init__(self) -> None:
        if not 1 < self.gap < inf:
            raise TargetError(f"`gap` {self.gap} is not possible: give more than 1 cutoff.")
        if not 0 < self.chain < inf:
            raise TargetError(f"`chain` {self.chain} is not possible: give more than 0 Angstrom.")

    def measure(self, subject: Subject, model: Model, at_rest: Callable[[], Relaxed]) -> Values:
        atoms, calculator = subject.atoms, model.calculator
        additivity, felt = _across(atoms, self.gap * model.cutoff, calculator)
        return {
            "extensivity": _extensivity(atoms, calculator) if atoms.pbc.any() else None,
            "additivity": additivity,
            "felt": felt,
            "reach": reach(self._row(atoms, model.cutoff), calculator),
        }

    def _row(self, atoms: Atoms, cutoff: float) -> Atoms:
        """A chain of the structure's elements in turn, each at the distance of a long bond from the next."""
        kinds = np.unique(atoms.numbers)
        spacing = min(2.4 * float(covalent_radii[kinds].max()), 0.9 * cutoff)
        count = int(np.ceil(self.chain / spacing)) + 1
        places = spacing * np.arange(count)[:, None] * np.array([1.0, 0.0, 0.0])
        return Atoms(numbers=np.resize(kinds, count), positions=places)


def reach(row: Atoms, calculator: Calculator) -> float:
    """Distance, Angstrom, of the farthest atom that feels (by 1e-6 eV/Angstrom) that the first one moves; 0 if none."""
    moved = row.copy()
    moved.positions[0] += _MOVED
    changes = abs(_evaluated(moved, calculator)[1] - _evaluated(row, calculator)[1]).max(axis=1)
    distances = np.linalg.norm(row.positions - row.positions[0], axis=1)
    return float(distances[changes > _FELT].max(initial=0.0))


def _extensivity(atoms: Atoms, calculator: Calculator) -> float:
    """Energy of two cells minus twice that of one, meV/atom."""
    repeats = [1, 1, 1]
    periodic = np.where(atoms.pbc, atoms.cell.lengths(), inf)
    repeats[int(periodic.argmin())] = 2
    twice = _evaluated(atoms.repeat(repeats), calculator)[0]
    return 1e3 * abs(twice - 2 * _evaluated(atoms, calculator)[0]) / len(atoms) / 2


def _across(atoms: Atoms, gap: float, calculator: Calculator) -> tuple[float, float]:
    """Energy of two clusters minus twice that of one, meV/atom; force that one feels of the other, meV/Angstrom."""
    one = Atoms(numbers=atoms.numbers, positions=atoms.positions)
    other = one.copy()
    other.positions[:, 0] += np.ptp(one.positions[:, 0]) + gap
    apart, forces = _evaluated(one + other, calculator)
    other.positions[0] += _MOVED * [0, 1, 1]
    _, after = _evaluated(one + other, calculator)
    alone = _evaluated(one, calculator)[0]
    count = len(one)
    return 1e3 * abs(apart - 2 * alone) / count / 2, 1e3 * float(abs(after - forces)[:count].max())


def _evaluated(atoms: Atoms, calculator: Calculator) -> tuple[float, np.ndarray]:
    """Energy, eV, and forces (atoms, 3), eV/Angstrom."""
    atoms = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    atoms.calc = calculator
    energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise UnmeasurableError(Why.NOT_FINITE, "energy or forces are not finite numbers")
    return energy, forces
