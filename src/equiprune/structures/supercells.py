"""Supercells of a wanted size, as near to a cube as repeating a cell allows."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError


def supercell(atoms: Atoms, least: int) -> Atoms:
    """A structure repeated along its periodic directions, the shortest first, until it has at least so many atoms.

    Args:
        atoms: the structure; calculators, constraints and what else it carries are left out.
        least: number of atoms that is reached, or exceeded by as little as one more layer.

    Raises:
        StructureError: it is periodic in no direction, so that it cannot be repeated.

    >>> from ase.build import bulk
    >>> [len(supercell(bulk("NaCl", "rocksalt", a=5.6, cubic=True), least)) for least in (8, 60, 500, 10_000)]
    [8, 64, 512, 10648]
    """
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if least > len(bare) and not bare.pbc.any():
        raise StructureError(
            f"{bare.get_chemical_formula()} is periodic in no direction, so it cannot be repeated to {least} atoms. "
            "Give a crystal, a slab or a liquid in a periodic box."
        )
    repeats = np.ones(3, dtype=int)
    lengths = np.where(bare.pbc, bare.cell.lengths(), np.inf)
    while len(bare) * repeats.prod() < least:
        repeats[np.argmin(repeats * lengths)] += 1
    return bare.repeat(repeats.tolist())
