"""Geometries of which neighbour lists can be made: others would take hours, all memory, or the process with them."""

from __future__ import annotations

import numpy as np
from ase import Atoms

LONGEST = 1e4
"""Angstrom: longer cells, and atoms further apart in a direction that is not periodic, are mistakes."""
_FARTHEST = 1e6
"""Angstrom from the origin, beyond which single precision knows no bonds."""
_FLATTEST = 0.05
"""Angstrom between neighbouring planes of a lattice; an atom is wider."""
_DENSEST = 10.0
"""Atoms per cubic Angstrom of a periodic cell; solids have 0.2 at most."""


def unworkable(atoms: Atoms) -> str:
    """Reason why no neighbour list can be made, as the end of a sentence; empty where one can.

    >>> unworkable(Atoms("H", cell=[1e9, 5, 5], pbc=True))
    'has a cell vector longer than 10,000 Angstrom'
    >>> unworkable(Atoms("H", cell=[5, 5, 5], pbc=True))
    ''
    """
    positions, lattice = atoms.positions, atoms.cell.array[atoms.pbc]
    if not (np.isfinite(positions).all() and np.isfinite(atoms.cell.array).all()):
        return "has positions or a cell that are not finite numbers"
    if np.abs(positions).max(initial=0.0) > _FARTHEST:
        return f"has atoms more than {_FARTHEST:,.0f} Angstrom from the origin"
    if not atoms.pbc.all() and len(atoms) and np.ptp(positions, axis=0).max() > LONGEST:
        return f"has atoms more than {LONGEST:,.0f} Angstrom apart, and is not periodic"
    return _of_lattice(lattice, len(atoms)) if len(lattice) else ""


def _of_lattice(lattice: np.ndarray, count: int) -> str:
    """The same of the vectors, shape (1 to 3, 3), along which so many atoms are periodic."""
    if np.abs(lattice).max() > LONGEST:
        return f"has a cell vector longer than {LONGEST:,.0f} Angstrom"
    volume = np.sqrt(max(0.0, np.linalg.det(lattice @ lattice.T)))
    if volume < 1e-6:
        return "is periodic along cell vectors that are zero or parallel"
    apart = 1 / np.linalg.norm(np.linalg.pinv(lattice), axis=0).max()
    if apart < _FLATTEST:
        return f"has a cell that is {apart:.2g} Angstrom thick; check its vectors"
    if len(lattice) == 3 and count > _DENSEST * volume:
        return f"has {count / volume:,.0f} atoms per cubic Angstrom; check the unit of its cell"
    return ""
