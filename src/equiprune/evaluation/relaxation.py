"""Relaxations of crystals, positions and cell, which say how they ended.

ASE's optimisers end quietly after the last step, and go on where atoms or the cell have gone astray.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from math import inf
from typing import Any

import numpy as np
from ase import Atoms

from equiprune.errors import TargetError, closest
from equiprune.files.settings import kind
from equiprune.structures.closeness import too_close

OPTIMISERS = ("BFGS", "BFGSLineSearch", "FIRE", "FIRE2", "LBFGS")
"""Optimisers of ASE."""
FILTERS = ("FrechetCellFilter", "UnitCellFilter")
"""Ways of ASE to move the cell with the atoms."""


class Ending(Enum):
    """End of a relaxation."""

    AT_REST = "at rest"
    NOT_AT_REST = "not at rest"
    COLLAPSED = "collapsed"
    FLOWN_APART = "flown apart"
    NOT_FINITE = "not finite"


@dataclass(frozen=True)
class Ended:
    """The end of a relaxation, and the same in words with its numbers; no words at rest."""

    ending: Ending
    said: str = ""


@kind("relaxation_rules")
@dataclass(frozen=True)
class RelaxationRules:
    """Rules of a relaxation of positions and cell, and of when a structure is none any more.

    Attributes:
        fmax: eV/Angstrom, the largest force on an atom at rest; also of the cell, as the filter scales its stress.
        steps: at most.
        optimiser: of `OPTIMISERS`.
        filter: of `FILTERS`, through which the cell moves.
        largest_change: factor by which the volume may grow or shrink; beyond it a cell has collapsed or flown apart.
        closest: fraction of the sum of two covalent radii that atoms are apart in the end, at least.
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

    @property
    def optimiser_class(self) -> type[Any]:
        """ASE's optimiser, slow to import."""
        return getattr(import_module("ase.optimize"), self.optimiser)

    def motion(self, atoms: Atoms) -> Any:
        """ASE's optimiser of these atoms and their cell; they have a calculator with a stress."""
        cell_filter = getattr(import_module("ase.filters"), self.filter)
        return self.optimiser_class(cell_filter(atoms), logfile=None)

    def followed(self, motion: Any, volume: float) -> Ended:
        """Run an optimiser of ASE until it ends, or its atoms are no structure any more.

        ``volume`` is that of the cell before, Angstrom^3.

        >>> from ase.build import bulk
        >>> from ase.calculators.emt import EMT
        >>> copper = Atoms(bulk("Cu", a=3.5), calculator=EMT())
        >>> rules = RelaxationRules(fmax=0.001)
        >>> rules.followed(rules.motion(copper), copper.cell.volume).ending.value, f"{copper.cell.volume:.2f}"
        ('at rest', '11.57')
        """
        atoms, at_rest = getattr(motion.atoms, "atoms", motion.atoms), False  # a filter has the atoms
        with warnings.catch_warnings():
            # scipy's estimate for the filter's logarithm of a deformation, which is exact to 1e-12 near no deformation
            warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
            for converged in motion.irun(self.fmax, steps=self.steps):
                at_rest = bool(converged)
                if ended := self._astray(atoms, volume):
                    return ended
        if too_close(atoms, self.closest):
            return Ended(Ending.COLLAPSED, f"atoms are closer than {self.closest:g} of their covalent radii")
        if at_rest:
            return Ended(Ending.AT_REST)
        left = float(np.linalg.norm(motion.atoms.get_forces(), axis=1).max())
        left_over = f"{left:.2g} eV/Angstrom are left, {self.fmax:g} are at rest"
        return Ended(Ending.NOT_AT_REST, f"not at rest after {self.steps} steps ({left_over})")

    def _astray(self, atoms: Atoms, volume: float) -> Ended | None:
        if not finite(atoms):
            return Ended(Ending.NOT_FINITE, "energy, forces, stress or cell are not finite numbers while relaxing")
        change = atoms.cell.volume / volume
        if change < 1 / self.largest_change:
            return Ended(Ending.COLLAPSED, f"the volume shrinks to {change:.2g} of that before")
        if change > self.largest_change:
            return Ended(Ending.FLOWN_APART, f"the volume grows to {change:.2g} times that before")
        return None


def finite(atoms: Atoms) -> bool:
    """True if atoms are somewhere, and what their calculator has said of them last are numbers."""
    said = [atoms.calc.results[name] for name in ("energy", "forces", "stress") if name in atoms.calc.results]
    return all(np.isfinite(values).all() for values in (atoms.positions, atoms.cell.array, *said))
