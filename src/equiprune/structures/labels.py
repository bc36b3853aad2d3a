"""Reference values of structures: energy, forces, stress, products of the Hessian, atom energies.

A label that a structure lacks is None, never zero. A label that is there but not finite is an error that names the
structure. Which key of a file holds a label is chosen once, where the file is read: `LabelKeys` gives each structure
the chosen values under the names that `Labels` looks at first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress

from equiprune.errors import StructureError, closest
from equiprune.structures.sequences import Mapped, Origin
from equiprune.structures.stress_units import StressUnit

QUANTITIES = ("energy", "forces", "stress", "hessian", "atom_energies")
_OF_TEACHERS = ("hessian", "atom_energies")
"""Labels that no calculation of electrons gives; where there are none, nobody misses them."""
_RESULTS = {"atom_energies": "energies"}
"""What ASE calls a quantity, where that is another name."""
SOURCES = "equiprune_label_keys"
"""The info entry in which a structure remembers which keys or units its labels had in their file, by quantity."""

VECTORS, PRODUCTS = "hessian_vectors", "hessian_products"
"""Arrays of a structure, and columns of its file: (atoms, 3 n), the n vectors of an atom one after another."""


@dataclass(frozen=True)
class HessianProducts:
    """Products of the Hessian H = d2E/dr2 with some vectors; a row of H is its product with a vector of one 1.

    vectors: (n, atoms, 3); products: H v, (n, atoms, 3) eV/Angstrom^2 for vectors without a unit.
    """

    vectors: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, atoms: Atoms) -> HessianProducts | None:
        """From the arrays ``hessian_vectors`` and ``hessian_vector_products``; None without them.

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
    with vectors; atom_energies: (atoms,) eV, each atom's share of the energy as a teacher has it.
    """

    energy: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None
    hessian: HessianProducts | None = None
    atom_energies: np.ndarray | None = None

    @classmethod
    def of(cls, atoms: Atoms) -> Labels:
        """From the calculator results, or from ``REF_energy``, ``REF_forces``, ``REF_stress`` where those are given.

        A stress is 6 numbers (xx, yy, zz, yz, xz, xy), 9, or 3 x 3. Atom energies are the result that ASE calls
        ``energies``, or ``REF_atom_energies``.

        Raises:
            StructureError: a label that is present has another shape, or is not finite.
        """
        results, arrays = _results(atoms), {**atoms.info, **atoms.arrays}
        energy = _label(atoms, "energy", atoms.info, results, ())
        return cls(
            energy=None if energy is None else float(energy),
            forces=_label(atoms, "forces", arrays, results, (len(atoms), 3)),
            stress=_label(atoms, "stress", atoms.info, results, (3, 3)),
            hessian=HessianProducts.of(atoms),
            atom_energies=_label(atoms, "atom_energies", arrays, results, (len(atoms),)),
        )

    def lacks(self, quantity: str, atoms: Atoms) -> bool:
        """True without a label, and for the stress of structures that are not periodic in 3-D, which have none."""
        return getattr(self, quantity) is None or (quantity == "stress" and not atoms.pbc.all())


def labels_of(atoms: Atoms, place: Origin) -> Labels:
    """`Labels.of` a structure; an error also says where it is from."""
    try:
        return Labels.of(atoms)
    except StructureError as error:
        raise StructureError(f"{place}: {error}") from error


@dataclass(frozen=True)
class LabelKeys:
    """The key of each label in a file; None leaves it to `Labels` (``REF_...``, else the calculator result).

    A key names an entry of ``info`` or ``arrays``, or a calculator result.

    >>> atoms = Atoms("H", info={"dft_energy": -13.6, "REF_energy": 0.0})
    >>> Labels.of(LabelKeys(energy="dft_energy").on(atoms)).energy
    -13.6
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    atom_energies: str | None = None
    stress_unit: StressUnit | None = None

    @property
    def chosen(self) -> dict[str, str]:
        """Key by quantity, of those that are chosen."""
        names = ("energy", "forces", "stress", "atom_energies")
        return {name: key for name in names if (key := getattr(self, name)) is not None}

    def on(self, atoms: Atoms) -> Atoms:
        """The structure with these labels and, where it lacks a chosen key, none; never another one in its place."""
        if not self.chosen and self.stress_unit is None:
            return atoms
        found = {quantity: _value(atoms, key) for quantity, key in self.chosen.items()}
        if self.stress_unit is not None:
            found["stress"] = self.stress_unit.converted(atoms, self._stress(atoms, found))
        relabelled = atoms.copy()
        ours = {_RESULTS.get(quantity, quantity) for quantity in found}
        results = {k: v for k, v in (atoms.calc.results if atoms.calc else {}).items() if k not in ours}
        for quantity, value in found.items():
            relabelled.arrays.pop(f"REF_{quantity}", None)
            relabelled.info[f"REF_{quantity}"] = value
        said = {} if self.stress_unit is None else {"stress": f"{self.stress or 'stress'} ({self.stress_unit})"}
        relabelled.info[SOURCES] = {**atoms.info.get(SOURCES, {}), **self.chosen, **said}
        relabelled.calc = SinglePointCalculator(relabelled, **results)
        return relabelled

    def _stress(self, atoms: Atoms, found: Mapping[str, Any]) -> Any:
        """The stress as it is in the file. Raises `StructureError` where the format of the file has its own unit."""
        if "stress" in atoms.info.get(SOURCES, {}):
            raise StructureError(
                f"The stress of {atoms.get_chemical_formula()} was converted already, from "
                f"{atoms.info[SOURCES]['stress']}. Leave out `stress_unit`."
            )
        return found["stress"] if self.stress else Labels.of(atoms).stress

    def on_all(self, structures: Sequence[Atoms]) -> Sequence[Atoms]:
        """`on` each structure, when it is asked for. Raises as `check` does."""
        self.check(structures)
        return Mapped(structures, self.on) if self.chosen or self.stress_unit else structures

    def check(self, structures: Iterable[Atoms]) -> None:
        """Raise `StructureError` naming the keys there are, when a chosen one is in none of the structures."""
        wanted, there = dict(self.chosen), set[str]()
        for atoms in structures if wanted else ():
            there |= _keys(atoms)
            wanted = {quantity: key for quantity, key in wanted.items() if key not in there}
            if not wanted:
                return
        for quantity, key in wanted.items():
            raise StructureError(
                f"No structure has '{key}', given as `{quantity}_key`.{closest(key, there)} There are: "
                f"{', '.join(sorted(there)) or 'no keys at all'}."
            )


def _keys(atoms: Atoms) -> set[str]:
    """Names that a label can have: not those that every structure has."""
    return (atoms.info.keys() | atoms.arrays.keys() | (atoms.calc.results if atoms.calc else {}).keys()) - {
        "numbers",
        "positions",
        SOURCES,
    }


def _value(atoms: Atoms, key: str) -> Any:
    places = (atoms.info, atoms.arrays, atoms.calc.results if atoms.calc else {})
    return next((place[key] for place in places if key in place), None)


@dataclass(frozen=True)
class LabelCounts:
    """Numbers of structures with each label, by where it came from."""

    structures: int = 0
    found: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Iterable[Mapping[str, str]]) -> LabelCounts:
        """From the `label_sources` of each structure."""
        found, count = Counter[tuple[str, str]](), 0
        for source in sources:
            found.update(source.items())
            count += 1
        return cls(count, found)

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(self.structures + other.structures, Counter(self.found) + Counter(other.found))

    def __str__(self) -> str:
        """One line: ``Labels: energy from REF_energy (3 of 3), no forces, ...``."""
        told = [q for q in QUANTITIES if q not in _OF_TEACHERS or self.of_quantity(q)]
        return "Labels: " + ", ".join(self._of(quantity) for quantity in told) + "."

    def of_quantity(self, quantity: str) -> dict[str, int]:
        """Structures by where they have this label from."""
        return {source: count for (name, source), count in sorted(self.found.items()) if name == quantity}

    def _of(self, quantity: str) -> str:
        sources = [f"{source} ({n} of {self.structures})" for source, n in self.of_quantity(quantity).items()]
        name = quantity.replace("_", " ")
        return f"{name} from {' and '.join(sources)}" if sources else f"no {name}"


def label_sources(atoms: Atoms, labels: Labels) -> dict[str, str]:
    """Sources of a structure's labels by quantity; one without a label is missing."""
    chosen = atoms.info.get(SOURCES, {})
    there = [quantity for quantity in QUANTITIES if not labels.lacks(quantity, atoms)]
    return {quantity: chosen.get(quantity) or _source(atoms, quantity) for quantity in there}


def _source(atoms: Atoms, quantity: str) -> str:
    key = PRODUCTS if quantity == "hessian" else f"REF_{quantity}"
    there = key in atoms.info or key in atoms.arrays
    return key if there else f"calculator result {_RESULTS.get(quantity, quantity)}"


def _label(
    atoms: Atoms, name: str, reference: Mapping[str, Any], results: Mapping[str, Any], shape: tuple[int, ...]
) -> np.ndarray | None:
    value = reference.get(f"REF_{name}", results.get(_RESULTS.get(name, name)))
    if value is None:
        return None
    said = name.replace("_", " ")
    try:
        array = np.array(value, dtype=float)
        array = voigt_6_to_full_3x3_stress(array) if name == "stress" and array.shape == (6,) else array.reshape(shape)
    except (TypeError, ValueError) as error:
        expected = " x ".join(map(str, shape)) + " numbers" if shape else "a number"
        raise StructureError(f"The {said} label of {atoms.get_chemical_formula()} is not {expected}.") from error
    if not np.isfinite(array).all():
        raise StructureError(f"The {said} label of {atoms.get_chemical_formula()} is not finite. Remove or mend it.")
    return array


def _results(atoms: Atoms) -> Mapping[str, Any]:
    """Results that the calculator of a structure already has for it as it is now."""
    if atoms.calc is None:
        return {}
    if isinstance(atoms.calc, SinglePointCalculator):  # compared once: its get_property does that for each quantity
        return {} if atoms.calc.check_state(atoms) else atoms.calc.results
    return {name: _result(atoms, name) for name in ("energy", "forces", "stress", "energies")}


def _result(atoms: Atoms, name: str) -> Any:
    try:
        return atoms.calc.get_property(name, atoms, allow_calculation=False)
    except PropertyNotImplementedError:
        return None
