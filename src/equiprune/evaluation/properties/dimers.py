"""Energies of two atoms of an element as they come together: a curve without data anywhere near most of it.

A potential that is wrong there lets atoms fall into each other, or binds them where nothing does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols, covalent_radii

from equiprune.errors import TargetError
from equiprune.evaluation.properties.diatomics import Curve
from equiprune.evaluation.properties.outcomes import Values
from equiprune.evaluation.properties.quantity import Examination, Model, Property, Quantity, Relaxed
from equiprune.evaluation.properties.subjects import Subject
from equiprune.files.settings import kind

_STEP = 1e-3
"""Angstrom, of finite differences of fourth order."""
_SLOPES = 20
"""Distances at which forces are compared with slopes."""


@kind("dimers")
@dataclass(frozen=True)
class Dimers(Property):
    """Energy curves of pairs of atoms of the same element, in a range of distances.

    Energies are relative to that at the longest distance. The range begins and ends at multiples of the bond length,
    the sum of two covalent radii: 0.9 and 2.5 of them are 2.4 and 6 Angstrom for copper.

    Attributes:
        shortest: distance, bond lengths.
        longest: distance, bond lengths.
        farthest: distance, Angstrom, where the longest would be longer.
        points: distances over the range, evenly.
        depth: eV, below which a dip is no minimum.
    """

    name: ClassVar[str] = "dimers"
    needs_stress: ClassVar[bool] = False
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("energy", "energy", "meV"),
        Quantity("force", "force", "meV/Angstrom"),
        Quantity("inconsistency", "force against slope, largest", "meV/Angstrom"),
        Quantity("jump", "largest jump of the energy", "meV"),
        Quantity("spurious_minima", "spurious minima", ""),
    )

    shortest: float = 0.9
    longest: float = 2.5
    farthest: float = 6.0
    points: int = 121
    depth: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.shortest < self.longest < inf:
            raise TargetError(
                f"A range of {self.shortest} to {self.longest} bond lengths is not possible: `shortest` is more than "
                "0, and `longest` more than that."
            )
        if not 0 < self.farthest < inf or not 0 < self.depth < inf:
            raise TargetError(f"`farthest` {self.farthest} and `depth` {self.depth} must both be more than 0.")
        if self.points < 10:
            raise TargetError(f"`points` {self.points} is not possible: give 10 or more.")

    def span(self, z: int) -> tuple[float, float]:
        """The shortest and the longest distance of a pair, Angstrom.

        >>> Dimers().span(29)
        (2.376, 6.0)
        """
        bond = 2 * float(covalent_radii[z])
        return round(self.shortest * bond, 6), round(min(self.longest * bond, self.farthest), 6)

    def pairs(self, elements: Mapping[int, Curve | None]) -> Examination:
        """The measurement of pairs of these elements, compared with their curves where there are any.

        Raises:
            TargetError: a range without a width, or in which a curve has fewer than two points.
        """
        return Examination(self, tuple(self._pair(z, elements[z]) for z in sorted(elements)))

    def _pair(self, z: int, known: Curve | None) -> Subject:
        low, high = self.span(z)
        name = f"{chemical_symbols[z]}2"
        if not low < high:
            raise TargetError(f"The range of {name} is {low} to {high} Angstrom. Give a larger `farthest`.")
        atoms = _pair_at(z, low)
        if known is None:
            return Subject(name, atoms, distances=tuple(np.linspace(low, high, self.points).tolist()))
        curve = known.between(low, high)
        if len(curve.distances) < 2:
            raise TargetError(f"The curve of {name} has no two points from {low} to {high} Angstrom. Widen the range.")
        references = {"energy": _milli(curve.energies - curve.energies[-1])}
        if curve.forces is not None:
            references["force"] = _milli(curve.forces)
        return Subject(name, atoms, references, tuple(curve.distances.tolist()))

    def measure(self, subject: Subject, model: Model, at_rest: Callable[[], Relaxed]) -> Values:
        z = int(subject.atoms.numbers[0])
        grid = np.linspace(*self.span(z), self.points)
        energies, forces = pair_curve(z, grid, model.calculator)
        compared, pulls = pair_curve(z, np.array(subject.distances), model.calculator)
        return {
            "energy": _milli(compared - compared[-1]),
            "force": _milli(pulls),
            "inconsistency": 1e3 * _inconsistency(z, grid[:: -(-len(grid) // _SLOPES)], model.calculator),
            "jump": 1e3 * largest_jump(grid, energies, forces),
            "spurious_minima": float(max(minima(energies, self.depth) - 1, 0)),
        }


def pair_curve(z: int, distances: np.ndarray, calculator: Calculator) -> tuple[np.ndarray, np.ndarray]:
    """Energies (points,) in eV and forces (points,) in eV/Angstrom, positive where atoms repel, of distances."""
    energies, forces = [], []
    for distance in distances:
        atoms = _pair_at(z, float(distance))
        atoms.calc = calculator
        energies.append(float(atoms.get_potential_energy()))
        forces.append(float(atoms.get_forces()[1, 0]))
    return np.array(energies), np.array(forces)


def largest_jump(distances: np.ndarray, energies: np.ndarray, forces: np.ndarray) -> float:
    """Largest change of the energy, eV, from one distance to the next that forces do not explain (trapezoidal rule).

    >>> r = np.linspace(1.0, 2.0, 101)
    >>> step = np.where(r > 1.5, 0.2, 0.0)
    >>> round(largest_jump(r, 1 / r + step, 1 / r**2), 4)
    0.2
    """
    explained = -(forces[1:] + forces[:-1]) / 2 * np.diff(distances)
    return float(abs(np.diff(energies) - explained).max())


def minima(energies: np.ndarray, depth: float) -> int:
    """Number of minima of a curve that are deeper than ``depth``, on their shallower side.

    >>> minima(np.array([3.0, 0.0, 1.0, 0.5, 2.0, 1.999, 2.0]), depth=0.01)
    2
    """
    from scipy.signal import find_peaks  # slow to import, and only needed here

    return len(find_peaks(-energies, prominence=depth)[0])


def _inconsistency(z: int, distances: np.ndarray, calculator: Calculator) -> float:
    """Largest difference of forces from minus the slope of the energy, eV/Angstrom."""
    at = [pair_curve(z, distances + offset * _STEP, calculator)[0] for offset in (-2, -1, 1, 2)]
    slopes = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * _STEP)
    return float(abs(pair_curve(z, distances, calculator)[1] + slopes).max())


def _pair_at(z: int, distance: float) -> Atoms:
    return Atoms(numbers=[z, z], positions=[[0, 0, 0], [distance, 0, 0]])


def _milli(values: np.ndarray) -> list[float]:
    return (1e3 * values).tolist()
