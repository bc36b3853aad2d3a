"""Reference values of structures: energy, forces, stress.

A label that a structure lacks is None, never zero. A label that is there but not finite is an error that names the
structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress

from equiprune.errors import StructureError


@dataclass(frozen=True)
class Labels:
    """Reference values of one structure, None where it has none.

    energy: eV, total; forces: (atoms, 3) eV/Angstrom; stress: (3, 3) eV/Angstrom^3, ASE's sign.
    """

    energy: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None

    @classmethod
    def of(cls, atoms: Atoms) -> Labels:
        """From the calculator results, or from ``REF_energy``, ``REF_forces``, ``REF_stress`` where those are given.

        Raises:
            StructureError: a label that is present has another shape, or is not finite.
        """
        energy = _label(atoms, "energy", atoms.info, ())
        return cls(
            energy=None if energy is None else float(energy),
            forces=_label(atoms, "forces", atoms.arrays, (len(atoms), 3)),
            stress=_label(atoms, "stress", atoms.info, (3, 3)),
        )

    def lacks(self, quantity: str, atoms: Atoms) -> bool:
        """True without a label, and for the stress of structures that are not periodic in 3-D, which have none."""
        return getattr(self, quantity) is None or (quantity == "stress" and not atoms.pbc.all())


def _label(atoms: Atoms, name: str, reference: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray | None:
    value = reference.get(f"REF_{name}", _result(atoms, name))
    if value is None:
        return None
    try:
        array = np.asarray(value, dtype=float)
        array = voigt_6_to_full_3x3_stress(array) if name == "stress" and array.shape == (6,) else array.reshape(shape)
    except (TypeError, ValueError) as error:
        expected = " x ".join(map(str, shape)) + " numbers" if shape else "a number"
        raise StructureError(f"The {name} label of {atoms.get_chemical_formula()} is not {expected}.") from error
    if not np.isfinite(array).all():
        raise StructureError(f"The {name} label of {atoms.get_chemical_formula()} is not finite. Remove or mend it.")
    return array


def _result(atoms: Atoms, name: str) -> Any:
    if atoms.calc is None:
        return None
    try:
        return atoms.calc.get_property(name, atoms, allow_calculation=False)
    except PropertyNotImplementedError:
        return None
