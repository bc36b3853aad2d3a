"""Reference values of structures: energy, forces, stress, products of the Hessian.

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

VECTORS, PRODUCTS = "hessian_vectors", "hessian_products"
"""Arrays of a structure, and columns of its file: (atoms, 3 n), the n vectors of an atom one after another."""


@dataclass(frozen=True)
class HessianProducts:
    """What the Hessian H = d2E/dr2 makes of some vectors; a row of H is its product with a vector of one 1.

    vectors: (n, atoms, 3); products: H v, (n, atoms, 3) eV/Angstrom^2 for vectors without a unit.
    """

    vectors: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, atoms: Atoms) -> HessianProducts | None:
        """From the arrays ``hessian_vectors`` and ``hessian_products``; None without them.

        Raises:
            StructureError: one without the other, another shape, or a number that is not finite.
        """
        found = [atoms.arrays.get(name) for name in (VECTORS, PRODUCTS)]
        if found[0] is None and found[1] is None:
            return None
        formula = atoms.get_chemical_formula()
        if found[0] is None or found[1] is None:
            raise StructureError(f"{formula} has only one of {VECTORS} and {PRODUCTS}. Give both or none.")
        vectors, values = (np.asarray(array, dtype=float).reshape(len(atoms), -1) for array in found)
        if vectors.shape != values.shape or vectors.shape[1] % 3:
            raise StructureError(
                f"{VECTORS} and {PRODUCTS} of {formula} have {vectors.shape[1]} and {values.shape[1]} columns; they "
                "need the same number, 3 for each vector."
            )
        if not (np.isfinite(vectors).all() and np.isfinite(values).all()):
            raise StructureError(f"{VECTORS} or {PRODUCTS} of {formula} are not finite. Remove or mend them.")
        return cls(_by_vector(vectors), _by_vector(values))

    def on(self, atoms: Atoms) -> Atoms:
        """A copy of the structure, labels included, that has these."""
        copy = atoms.copy()
        copy.calc = atoms.calc
        copy.set_array(VECTORS, _by_atom(self.vectors))
        copy.set_array(PRODUCTS, _by_atom(self.products))
        return copy


def _by_vector(columns: np.ndarray) -> np.ndarray:
    """From (atoms, 3 n) to (n, atoms, 3)."""
    return columns.reshape(len(columns), -1, 3).swapaxes(0, 1)


def _by_atom(vectors: np.ndarray) -> np.ndarray:
    """From (n, atoms, 3) to (atoms, 3 n)."""
    return vectors.swapaxes(0, 1).reshape(vectors.shape[1], -1)


@dataclass(frozen=True)
class Labels:
    """Reference values of one structure, None where it has none.

    energy: eV, total; forces: (atoms, 3) eV/Angstrom; stress: (3, 3) eV/Angstrom^3, ASE's sign; hessian: products
    with vectors.
    """

    energy: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None
    hessian: HessianProducts | None = None

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
            hessian=HessianProducts.of(atoms),
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
