"""Units and signs that stresses have in files, said by the user and never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.stress import voigt_6_to_full_3x3_stress

from equiprune.errors import StructureError

StressUnitName = Literal["eV/Angstrom^3", "GPa", "kbar", "eV"]
StressSign = Literal["tension", "pressure"]
_FACTORS: Mapping[str, float] = {"eV/Angstrom^3": 1.0, "GPa": units.GPa, "kbar": 0.1 * units.GPa}
"""eV/Angstrom^3"""
_SIGNS: Mapping[str, int] = {"tension": 1, "pressure": -1}


@dataclass(frozen=True)
class StressUnit:
    """The unit of stresses in a file, and their sign.

    Attributes:
        unit: eV is a virial, of the whole structure; the volume divides it.
        sign: tension (ASE) where a stretched cell has positive stress, pressure (VASP) where a compressed one has.
    """

    unit: StressUnitName = "eV/Angstrom^3"
    sign: StressSign = "tension"

    def __str__(self) -> str:
        return f"{self.unit}, positive under {self.sign}"

    def converted(self, atoms: Atoms, value: Any) -> np.ndarray | None:
        """A stress, 6 or 9 numbers, in eV/Angstrom^3 with ASE's sign, (3, 3); None for None.

        Raises:
            StructureError: other numbers, or a virial without a cell.

        >>> cube = Atoms("Cu", cell=[2, 2, 2], pbc=True)
        >>> StressUnit("eV", "pressure").converted(cube, [8, 8, 8, 0, 0, 0]).diagonal().round(12).tolist()
        [-1.0, -1.0, -1.0]
        """
        if value is None:
            return None
        formula = atoms.get_chemical_formula()
        try:
            tensor = np.array(value, dtype=float)
            full = voigt_6_to_full_3x3_stress(tensor) if tensor.shape == (6,) else tensor.reshape(3, 3)
        except (TypeError, ValueError) as error:
            raise StructureError(f"The stress label of {formula} is not 3 x 3 numbers.") from error
        if self.unit == "eV" and atoms.cell.rank < 3:
            raise StructureError(f"The virial of {formula} is of no volume: it has no cell.")
        factor = 1 / atoms.get_volume() if self.unit == "eV" else _FACTORS[self.unit]
        return np.asarray(_SIGNS[self.sign] * factor * full)
