"""Crashes: the moments at which dynamics has left physics, and says so instead of going on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from ase import Atoms, units

from equiprune.evaluation.dynamics.engines import Moment
from equiprune.labelling.walks import CLOSEST
from equiprune.structures.closeness import too_close

_HOTTEST = 10.0
"""Times the temperature of the protocol, at which dynamics has exploded."""
_VOLUMES = (1 / 3, 3.0)
"""Range of volumes, relative to the first, in which a cell has neither collapsed nor evaporated."""
_ALONE = 6.0
"""Angstrom: an atom that has no other so near is lost, unless one was so at the start."""


class Cause(Enum):
    """Why dynamics ended."""

    NOT_FINITE = "not_finite"
    TOO_HOT = "too_hot"
    TOO_CLOSE = "too_close"
    LOST = "lost"
    CELL = "cell"
    FAILED = "failed"


class UnsoundError(Exception):
    """Atoms that are no structure in motion any more."""

    def __init__(self, cause: Cause, said: str) -> None:
        super().__init__(said)
        self.cause = cause


@dataclass(frozen=True)
class Crash:
    """The end of dynamics that could not go on.

    Attributes:
        cause: kind of the end.
        said: the same in words, with numbers.
        step: first one that was not sound; 0 or less while equilibrating.
        time: of that step, ps after production began.
    """

    cause: Cause
    said: str
    step: int
    time: float

    def __str__(self) -> str:
        when = f"after {self.time:.4g} ps" if self.step > 0 else "while it was brought to equilibrium"
        return f"{when} (step {self.step}): {self.said}"

    def to_json(self) -> dict[str, Any]:
        """``cause``, ``said``, ``step``, ``time`` (ps)."""
        return {"cause": self.cause.value, "said": self.said, "step": self.step, "time": self.time}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Crash:
        """The crash that `to_json` wrote."""
        return cls(Cause(value["cause"]), value["said"], value["step"], value["time"])


@dataclass(frozen=True)
class Soundness:
    """Limits of what is still a structure in motion.

    Attributes:
        hottest: K.
        volumes: smallest and largest, Angstrom^3; of no meaning unless periodic in three directions.
        reach: Angstrom, within which every atom has another.
    """

    hottest: float
    volumes: tuple[float, float]
    reach: float

    @classmethod
    def of(cls, start: Atoms, temperature: float) -> Soundness:
        """Limits for dynamics at a temperature, K, that begins like this.

        >>> [Soundness.of(Atoms("H2", [[0, 0, 0], [0, 0, z]]), 300).reach for z in (4, 8)]
        [6.0, 12.0]
        """
        volumes = _VOLUMES[0] * start.cell.volume, _VOLUMES[1] * start.cell.volume
        reach = _ALONE
        while _lonely(start, reach) is not None:
            reach *= 2
        return cls(_HOTTEST * temperature, volumes, reach)

    def check(self, moment: Moment, freedom: int) -> None:
        """Raise `UnsoundError` unless a moment of atoms with so many degrees of freedom is sound."""
        atoms = moment.atoms
        numbers = (atoms.positions, atoms.get_momenta(), atoms.cell.array, moment.forces, moment.potential)
        if not all(np.isfinite(each).all() for each in numbers):
            raise UnsoundError(Cause.NOT_FINITE, "energy, forces or positions are not finite numbers")
        if (kelvin := temperature(moment.kinetic, freedom)) > self.hottest:
            raise UnsoundError(Cause.TOO_HOT, f"{kelvin:.0f} K, more than {_HOTTEST:.0f} times what was asked for")
        if atoms.pbc.all() and not self.volumes[0] <= atoms.cell.volume <= self.volumes[1]:
            times = _VOLUMES[1] * atoms.cell.volume / self.volumes[1]
            raise UnsoundError(Cause.CELL, f"the cell has {times:.2f} times its volume at first")
        if too_close(atoms, CLOSEST):
            raise UnsoundError(Cause.TOO_CLOSE, f"two atoms are closer than {CLOSEST} sums of their covalent radii")
        if (lost := _lonely(atoms, self.reach)) is not None:
            said = f"atom {lost} ({atoms.symbols[lost]}) has no other within {self.reach:.0f} Angstrom"
            raise UnsoundError(Cause.LOST, said)


def temperature(kinetic: float, freedom: int) -> float:
    """K, of a kinetic energy in eV that so many degrees of freedom share.

    >>> f"{temperature(1.0, 297):.2f}"
    '78.14'
    """
    return 2 * kinetic / (freedom * units.kB)


def _lonely(atoms: Atoms, reach: float) -> int | None:
    """The first atom that has no other, and no image, within reach (Angstrom); None if there is none."""
    import vesin  # slow to import, and only needed here

    finder = vesin.NeighborList(cutoff=reach, full_list=True, n_threads=1)
    [near] = finder.compute(points=atoms.positions, box=atoms.cell.array, periodic=atoms.pbc, quantities="i")
    alone = np.flatnonzero(np.bincount(near.astype(np.int64), minlength=len(atoms)) == 0)
    return int(alone[0]) if len(alone) else None
