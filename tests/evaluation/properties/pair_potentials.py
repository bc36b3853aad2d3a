"""Crystals whose properties can be worked out by hand, and calculators that go wrong."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.morse import MorsePotential

NEAREST = 2.5
"""Angstrom, distance of nearest neighbours at rest."""
SPRING = 2 * 0.3 * (4.0 / NEAREST) ** 2
"""eV/Angstrom^2, second derivative of the pair energy at rest."""


def springs(**more: Any) -> MorsePotential:
    """A Morse potential between nearest neighbours alone: everything of an fcc crystal follows from `SPRING`."""
    chosen = {"epsilon": 0.3, "r0": NEAREST, "rho0": 4.0, "rcut1": 1.2, "rcut2": 1.35, **more}
    return MorsePotential(**chosen)


def fcc(stretched: float = 1.0, symbol: str = "Cu") -> Atoms:
    return bulk(symbol, "fcc", a=NEAREST * np.sqrt(2) * stretched)


class Wrong(Calculator):
    """A calculator with a stress, whose every answer a test chooses."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, energy: float = 0.0, force: float = 0.0, stress: float = 0.0) -> None:
        super().__init__()
        self.energy, self.force, self.stress = energy, force, stress

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {
            "energy": self.energy,
            "forces": np.full((len(atoms), 3), self.force),
            "stress": self.stress * np.array([1.0, 1, 1, 0, 0, 0]),
        }


class Broken(Calculator):
    """A calculator that cannot evaluate anything."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        raise ValueError("no\nsuch atom")
