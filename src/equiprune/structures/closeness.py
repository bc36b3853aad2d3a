"""Atoms that are closer than any that bond."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from equiprune.structures.geometry import unworkable


def too_close(atoms: Atoms, fraction: float) -> bool:
    """True if two atoms, images included, are closer than this fraction of the sum of their covalent radii.

    >>> [too_close(Atoms("H2", positions=[[0, 0, 0], [0, 0, d]]), 0.5) for d in (0.2, 0.74)]
    [True, False]
    """
    radii = fraction * covalent_radii[atoms.numbers]
    if len(atoms) == 0 or not radii.any():
        return False
    spheres = 4 / 3 * np.pi * (radii**3).sum()  # which overlap unless there is room for all of them
    if atoms.pbc.all() and atoms.cell.volume < spheres:
        return True
    if unworkable(atoms):  # which is said where it is evaluated
        return False
    import vesin  # slow to import, and only needed here

    finder = vesin.NeighborList(cutoff=float(2 * radii.max()), full_list=False, n_threads=1)
    first, second, distances = finder.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=atoms.pbc, quantities="ijd"
    )
    return bool((distances < radii[first] + radii[second]).any())
