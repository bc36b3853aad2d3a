"""Crystals at rest, and never a crystal taken for one at rest that is not.

matcalc 0.7 calls a crystal converged by its forces alone, which vanish by symmetry in many crystals whatever their
stress is. It is therefore given an optimiser that raises unless it ends at rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator

from equiprune.evaluation.properties.outcomes import UnmeasurableError, Why
from equiprune.evaluation.properties.quantity import Relaxed
from equiprune.evaluation.relaxation import Ended, Ending, RelaxationRules

_WHY: Mapping[Ending, Why] = {
    Ending.NOT_AT_REST: Why.NOT_AT_REST,
    Ending.COLLAPSED: Why.COLLAPSED,
    Ending.FLOWN_APART: Why.FLOWN_APART,
    Ending.NOT_FINITE: Why.NOT_FINITE,
}


def relaxed(start: Atoms, calculator: Calculator, rules: RelaxationRules) -> Relaxed:
    """Relax positions and cell of a crystal.

    Args:
        start: periodic in three directions; it is left as it is.
        calculator: with a stress.
        rules: how, and until when.

    Raises:
        UnmeasurableError: it does not come to rest, collapses, flies apart, or is no crystal.

    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> found = relaxed(bulk("Cu", a=3.5), EMT(), RelaxationRules(fmax=0.001))
    >>> f"{found.atoms.cell.volume:.2f} Angstrom^3, {found.energy:.4f} eV"
    '11.57 Angstrom^3, -0.0070 eV'
    """
    if not start.pbc.all():
        raise UnmeasurableError(Why.NOT_A_CRYSTAL, "not periodic in three directions")
    atoms = Atoms(numbers=start.numbers, positions=start.positions, cell=start.cell, pbc=True)
    atoms.calc = calculator
    motion = rules.motion(atoms)
    check_at_rest(rules.followed(motion, start.cell.volume))
    energy = float(atoms.get_potential_energy())
    atoms.calc = None
    return Relaxed(atoms, energy, motion.nsteps)


def optimiser_at_rest(rules: RelaxationRules, volume: float) -> type[Any]:
    """An ASE optimiser whose `run` raises `UnmeasurableError` unless it ends at rest.

    ``volume`` is that of the cell before, Angstrom^3.
    """
    base: Any = rules.optimiser_class

    class Optimiser(base):
        def run(self, fmax: float = rules.fmax, steps: int = rules.steps) -> bool:
            check_at_rest(replace(rules, fmax=fmax, steps=steps).followed(self, volume))
            return True

    return Optimiser


def check_at_rest(ended: Ended) -> None:
    """Raise `UnmeasurableError` for every other end of a relaxation."""
    if ended.ending in _WHY:
        raise UnmeasurableError(_WHY[ended.ending], ended.said)
