"""Bringing crystals to rest, and never taking a crystal for one at rest that is not.

ASE's optimisers end quietly after the last step, and matcalc 0.7 calls a crystal converged by its forces alone, which
vanish by symmetry in many crystals whatever their stress is. `Rest.optimiser` makes an ASE optimiser that raises
instead, also where atoms or the cell go astray; it is used here and given to matcalc.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from math import inf
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from equiprune.errors import TargetError, closest
from equiprune.evaluation.properties.outcomes import UnmeasurableError, Why
from equiprune.evaluation.properties.quantity import Relaxed
from equiprune.files.settings import kind
from equiprune.structures.closeness import too_close

OPTIMISERS = ("BFGS", "BFGSLineSearch", "FIRE", "FIRE2", "LBFGS")
"""Optimisers of ASE."""
FILTERS = ("FrechetCellFilter", "UnitCellFilter")
"""Ways of ASE to move the cell with the atoms."""


@kind("rest")
@dataclass(frozen=True)
class Rest:
    """Rules of a relaxation.

    Attributes:
        fmax: eV/Angstrom, the largest force on an atom at rest; also of the cell, as the filter scales its stress.
        steps: at most.
        optimiser: of `OPTIMISERS`.
        filter: of `FILTERS`, through which the cell moves.
        largest_change: factor by which the volume may grow or shrink; beyond it a cell has collapsed or flown apart.
        closest: fraction of the sum of two covalent radii that atoms at rest are apart, at least.
    """

    fmax: float = 0.01
    steps: int = 500
    optimiser: str = "FIRE"
    filter: str = "FrechetCellFilter"
    largest_change: float = 3.0
    closest: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.fmax < inf:
            raise TargetError(f"`fmax` {self.fmax} is not possible: give more than 0, in eV/Angstrom.")
        if self.steps < 1:
            raise TargetError(f"`steps` {self.steps} is not possible: give 1 or more.")
        for name, given, known in (("optimiser", self.optimiser, OPTIMISERS), ("filter", self.filter, FILTERS)):
            if given not in known:
                raise TargetError(f"There is no {name} '{given}'.{closest(given, known)} There are {', '.join(known)}.")
        if not 1 < self.largest_change < inf:
            raise TargetError(f"`largest_change` {self.largest_change} is not possible: give more than 1.")
        if not 0 <= self.closest < 1:
            raise TargetError(f"`closest` {self.closest} is not possible: give 0 or more, less than 1.")

    def optimiser_from(self, volume: float) -> type[Any]:
        """An ASE optimiser whose `run` raises `UnmeasurableError` unless it ends at rest.

        ``volume`` is that of the cell before, Angstrom^3.
        """
        base: Any = getattr(import_module("ase.optimize"), self.optimiser)
        rest = self

        class Optimiser(base):
            def run(self, fmax: float = rest.fmax, steps: int = rest.steps) -> bool:
                at_rest, atoms = False, getattr(self.atoms, "atoms", self.atoms)  # a filter has the atoms
                for converged in self.irun(fmax, steps):
                    at_rest = bool(converged)
                    rest.check(atoms, volume)
                if not at_rest:
                    raise UnmeasurableError(Why.NOT_AT_REST, f"not at rest after {steps} steps ({_left(self, fmax)})")
                return True

        return Optimiser

    def check(self, atoms: Atoms, volume: float) -> None:
        """Raise `UnmeasurableError` for atoms that are no crystal any more; ``volume`` is that before, Angstrom^3."""
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(atoms.cell.array).all()):
            raise UnmeasurableError(Why.NOT_FINITE, "energy, forces or cell are not finite numbers while relaxing")
        change = atoms.cell.volume / volume
        if change < 1 / self.largest_change:
            raise UnmeasurableError(Why.COLLAPSED, f"the volume shrinks to {change:.2g} of that before")
        if change > self.largest_change:
            raise UnmeasurableError(Why.FLOWN_APART, f"the volume grows to {change:.2g} times that before")


def relaxed(start: Atoms, calculator: Calculator, rest: Rest) -> Relaxed:
    """Relax positions and cell of a crystal.

    Args:
        start: periodic in three directions; it is left as it is.
        calculator: with a stress.
        rest: how, and until when.

    Raises:
        UnmeasurableError: it does not come to rest, collapses, flies apart, or is no crystal.

    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> found = relaxed(bulk("Cu", a=3.5), EMT(), Rest(fmax=0.001))
    >>> f"{found.atoms.cell.volume:.2f} Angstrom^3, {found.energy:.4f} eV"
    '11.57 Angstrom^3, -0.0070 eV'
    """
    if not start.pbc.all():
        raise UnmeasurableError(Why.NOT_A_CRYSTAL, "not periodic in three directions")
    cell_filter = getattr(import_module("ase.filters"), rest.filter)
    atoms = Atoms(numbers=start.numbers, positions=start.positions, cell=start.cell, pbc=True)
    atoms.calc = calculator
    motion = rest.optimiser_from(start.cell.volume)(cell_filter(atoms), logfile=None)
    motion.run()
    if too_close(atoms, rest.closest):
        raise UnmeasurableError(Why.COLLAPSED, f"atoms are closer than {rest.closest:g} of their covalent radii")
    energy = float(atoms.get_potential_energy())
    atoms.calc = None
    return Relaxed(atoms, energy, motion.nsteps)


def _left(motion: Any, fmax: float) -> str:
    """The largest force that is left, on atoms and cell."""
    largest = float(np.linalg.norm(motion.atoms.get_forces(), axis=1).max())
    return f"{largest:.2g} eV/Angstrom are left, {fmax:g} are at rest"
