"""Engines: programs that move the atoms, step by step, with the forces of any ASE calculator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from ase import Atoms, units

from equiprune.errors import TargetError
from equiprune.evaluation.dynamics.protocol import Conditions, Ensemble, Hidden


@dataclass(frozen=True)
class Moment:
    """The atoms after a step.

    Attributes:
        atoms: positions that are never wrapped, momenta, cell; no calculator.
        potential: potential energy, eV.
        kinetic: kinetic energy, eV.
        forces: (atoms, 3), eV/Angstrom.
        conserved: the energy that exact dynamics would conserve, eV; None where the ensemble has none.
        pressure: GPa, with the part of an ideal gas; None without a stress.
        hidden: what the integrator knows besides.
    """

    atoms: Atoms
    potential: float
    kinetic: float
    forces: np.ndarray
    conserved: float | None = None
    pressure: float | None = None
    hidden: Hidden = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Moving:
    """Atoms that are about to be moved.

    Attributes:
        atoms: with momenta and a calculator; an engine moves them.
        conditions: numbers that the integrator needs.
        hidden: what it knows besides.
    """

    atoms: Atoms
    conditions: Conditions
    hidden: Hidden = field(default_factory=dict)


class Engine(ABC):
    """A program that moves atoms.

    Attributes:
        together: copies of a structure are moved as one batch, not one after another.
    """

    name: str
    together: ClassVar[bool] = False

    @abstractmethod
    def check(self, ensemble: Ensemble, atoms: Atoms) -> None:
        """Raise `EquipruneError` for what this program cannot do with atoms that have a calculator."""

    @abstractmethod
    def moments(self, atoms: Atoms, ensemble: Ensemble, conditions: Conditions, hidden: Hidden) -> Iterator[Moment]:
        """One moment after the other, without end; the atoms have momenta and a calculator, and are moved."""

    def batches(self, copies: Sequence[Moving], ensemble: Ensemble) -> Iterator[Sequence[Moment]]:
        """The moments of all copies, step after step, without end; their forces are known when this returns."""
        for each in copies:
            each.atoms.get_forces()
        return zip(*(self.moments(each.atoms, ensemble, each.conditions, each.hidden) for each in copies), strict=True)


@dataclass(frozen=True)
class AseEngine(Engine):
    """ASE in this process: every ensemble, every structure."""

    name = "ase"

    def check(self, ensemble: Ensemble, atoms: Atoms) -> None:
        check_pressure(ensemble, atoms)

    def moments(self, atoms: Atoms, ensemble: Ensemble, conditions: Conditions, hidden: Hidden) -> Iterator[Moment]:
        motion = ensemble.motion(atoms, conditions, hidden)
        while True:
            motion.run(1)
            yield moment(atoms, ensemble, ensemble.hidden(motion), motion)


def moment(atoms: Atoms, ensemble: Ensemble, hidden: Hidden, motion: object = None) -> Moment:
    """The moment of atoms whose calculator has been called for their positions."""
    potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
    conserved = ensemble.conserved(motion, potential + kinetic)
    forces, pressure = atoms.get_forces(), pressure_of(atoms, kinetic)
    bare = atoms.copy()
    bare.info = {}
    return Moment(bare, potential, kinetic, forces, conserved, pressure, hidden)


def never_wrapped(places: np.ndarray, before: Atoms) -> np.ndarray:
    """The places (atoms, 3) without the jumps of atoms that leave the cell at one side and enter at the other.

    >>> never_wrapped(np.array([[0.1, 2.0, 3.0]]), Atoms("H", [[3.9, 2.0, 3.0]], cell=[4, 4, 4], pbc=True))
    array([[4.1, 2. , 3. ]])
    """
    if not before.pbc.any():
        return places
    cell = before.cell.array
    jumps = np.rint((places - before.positions) @ np.linalg.inv(cell))
    return places - jumps @ cell


def pressure_of(atoms: Atoms, kinetic: float) -> float | None:
    """Pressure, GPa, of atoms with this kinetic energy, eV; None where there is no stress."""
    if not has_stress(atoms):
        return None
    virial = -atoms.get_stress()[:3].mean()
    return float((virial + 2 * kinetic / (3 * atoms.get_volume())) / units.GPa)


def has_stress(atoms: Atoms) -> bool:
    """True for atoms that are periodic in three directions, and a calculator that gives a stress."""
    return bool(atoms.pbc.all()) and "stress" in atoms.calc.implemented_properties


def check_pressure(ensemble: Ensemble, atoms: Atoms) -> None:
    """Raise `TargetError` for an ensemble of constant pressure where there is no stress."""
    if ensemble.moves_cell and not has_stress(atoms):
        raise TargetError(
            "Constant pressure (`ensemble` npt) needs a structure that is periodic in three directions and a model "
            "with a stress. Choose nve or nvt."
        )
