"""Phonons of crystals from forces of displaced atoms, by phonopy (J. Phys. Soc. Jpn. 92, 012001).

phonopy is called directly: matcalc 0.7 gives its frequencies without the weights of their wave vectors, sums rigid
motions of the whole crystal into entropies, and writes a file where the program runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from equiprune.errors import EquipruneError, TargetError
from equiprune.evaluation.properties.outcomes import UnmeasurableError, Values, Why
from equiprune.evaluation.properties.quantity import Model, Property, Quantity, Relaxed
from equiprune.evaluation.properties.subjects import Subject
from equiprune.files.settings import kind

_QUANTUM = 2 * np.pi * 1e12 * units._hbar / units._e
"""eV of a quantum at 1 THz."""
_MOLAR = units._e * units._Nav
"""J/mol of 1 eV."""


@kind("phonons")
@dataclass(frozen=True)
class Phonons(Property):
    """Frequencies on a mesh of wave vectors, and heat capacity and entropy of harmonic vibrations.

    Force constants come from a supercell of which atoms are displaced, and are made to feel no drift of the whole. A
    crystal with imaginary modes is recorded, as it is the first sign of a wrong potential; it has no heat capacity and
    no entropy.

    Attributes:
        displacement: Angstrom.
        length: Angstrom, that the vectors of the supercell have at least.
        mesh: wave vectors along each reciprocal vector.
        temperature: K, of heat capacity and entropy.
        tolerance: THz; a mode is imaginary if its squared frequency is below minus the square of this.
        most: atoms of the supercell.
    """

    name: ClassVar[str] = "phonons"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("frequencies", "frequencies", "THz"),
        Quantity("highest", "highest frequency", "THz"),
        Quantity("imaginary", "imaginary modes", "%"),
        Quantity("heat_capacity", "heat capacity", "J/(mol K), of atoms"),
        Quantity("entropy", "entropy", "J/(mol K), of atoms"),
    )

    displacement: float = 0.01
    length: float = 10.0
    mesh: int = 6
    temperature: float = 300.0
    tolerance: float = 0.1
    most: int = 500

    def __post_init__(self) -> None:
        for name, unit in (
            ("displacement", "Angstrom"),
            ("length", "Angstrom"),
            ("temperature", "K"),
            ("tolerance", "THz"),
        ):
            if not 0 < getattr(self, name) < inf:
                raise TargetError(f"`{name}` {getattr(self, name)} is not possible: give more than 0 {unit}.")
        if self.mesh < 1 or self.most < 1:
            raise TargetError(f"`mesh` {self.mesh} and `most` {self.most} must both be 1 or more.")

    def check_installed(self) -> None:
        _phonopy()

    def measure(self, subject: Subject, model: Model, at_rest: Callable[[], Relaxed]) -> Values:
        frequencies = self.frequencies(at_rest().atoms, model.calculator)
        imaginary = frequencies < -self.tolerance
        values: dict[str, Any] = {
            "frequencies": frequencies.ravel().round(6).tolist(),
            "highest": float(frequencies.max()),
            "imaginary": float(100 * imaginary.mean()),
        }
        vibrating = frequencies[frequencies > self.tolerance]
        if imaginary.any() or not vibrating.size:
            return {**values, "heat_capacity": None, "entropy": None}
        capacity, entropy = harmonic(vibrating, self.temperature)
        return {**values, "heat_capacity": capacity, "entropy": entropy}

    def frequencies(self, atoms: Atoms, calculator: Calculator) -> np.ndarray:
        """Frequencies (wave vectors, 3 atoms) in THz of a crystal at rest, negative where they are imaginary.

        Raises:
            UnmeasurableError: the supercell is too large, or forces are not finite numbers.
        """
        repeats = np.ceil(self.length / atoms.cell.lengths()).astype(int)
        if (size := len(atoms) * int(repeats.prod())) > self.most:
            raise UnmeasurableError(Why.FAILED, f"the supercell would have {size} atoms, and {self.most} are allowed")
        api = _phonopy()
        from phonopy.structure.atoms import PhonopyAtoms

        cell = PhonopyAtoms(
            numbers=atoms.numbers,
            cell=atoms.cell.array,
            scaled_positions=atoms.get_scaled_positions(),
            masses=atoms.get_masses(),
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning: Point group symmetries")  # a supercell may well have fewer
            phonon = api.Phonopy(cell, np.diag(repeats), primitive_matrix="P")
        phonon.generate_displacements(distance=self.displacement)
        phonon.forces = np.array([_forces(moved, calculator) for moved in phonon.supercells_with_displacements])
        phonon.produce_force_constants()
        phonon.symmetrize_force_constants(show_drift=False)
        phonon.run_mesh([self.mesh] * 3, is_mesh_symmetry=False, is_time_reversal=False, is_gamma_center=True)
        return np.asarray(phonon.mesh.frequencies)


def harmonic(frequencies: np.ndarray, temperature: float) -> tuple[float, float]:
    """Heat capacity at constant volume and entropy of harmonic modes, J/(mol K) for a mole of atoms.

    Args:
        frequencies: THz, of any number of modes, each as frequent as the others.
        temperature: K.

    Dulong and Petit's 3 R = 24.94 J/(mol K) is reached by modes that are slow at this temperature.

    >>> [f"{value:.2f}" for value in harmonic(np.array([1.0, 2.0]), 300.0)]
    ['24.81', '62.08']
    """
    x = _QUANTUM * frequencies / (units.kB * temperature)
    unoccupied = -np.expm1(-x)
    capacity = x**2 * np.exp(-x) / unoccupied**2
    entropy = x * np.exp(-x) / unoccupied - np.log(unoccupied)
    molar = 3 * units.kB * _MOLAR
    return molar * float(capacity.mean()), molar * float(entropy.mean())


def _forces(cell: Any, calculator: Calculator) -> np.ndarray:
    """Forces (atoms, 3) in eV/Angstrom of a cell of phonopy's."""
    atoms = Atoms(numbers=cell.numbers, positions=cell.positions, cell=cell.cell, pbc=True)
    atoms.calc = calculator
    forces = atoms.get_forces()
    if not np.isfinite(forces).all():
        raise UnmeasurableError(Why.NOT_FINITE, "forces of displaced atoms are not finite numbers")
    return forces


def _phonopy() -> Any:
    """An optional package, slow to import.

    Raises:
        EquipruneError: it is not installed, or damaged.
    """
    try:
        import phonopy
    except ImportError as error:
        raise EquipruneError(f"Phonons need phonopy ({error}). pip install 'equiprune[properties]'") from error
    return phonopy
