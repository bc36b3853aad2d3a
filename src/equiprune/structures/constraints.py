"""Constraints of a structure's atoms."""

import numpy as np
from ase import Atoms


def fixed(atoms: Atoms) -> np.ndarray:
    """Atoms that a structure's constraints hold where they are: (atoms,) booleans.

    >>> from ase.constraints import FixAtoms
    >>> fixed(Atoms("H3", constraint=FixAtoms([1]))).tolist()
    [False, True, False]
    """
    held = np.zeros(len(atoms), dtype=bool)
    if not atoms.constraints:
        return held
    from ase.constraints import FixAtoms  # slow to import, and few structures have any

    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            held[constraint.index] = True
    return held
