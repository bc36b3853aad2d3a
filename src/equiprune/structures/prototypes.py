"""Crystals of any elements, in the structures that elements and simple compounds have most often.

Cells are as large as covalent radii ask for, which is near enough for a relaxation to begin, or for labels of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

LATTICES = ("fcc", "bcc", "hcp", "diamond", "sc")
"""Lattices of elements."""
_PACKING = {"fcc": 1.0, "bcc": 1.02, "hcp": 1.0, "diamond": 1.5, "sc": 1.15}
"""Volume of an atom relative to that of close packing with the element's covalent radius."""
_LOOSER = 1.05
"""Bond lengths of compounds in sums of covalent radii."""
_PLACES: Mapping[str, Callable[[float], tuple[str, dict[str, float]]]] = {
    "rocksalt": lambda bond: ("NaCl", {"a": 2 * bond}),
    "cesiumchloride": lambda bond: ("CsCl", {"a": 2 * bond / np.sqrt(3)}),
    "zincblende": lambda bond: ("ZnS", {"a": 4 * bond / np.sqrt(3)}),
    "fluorite": lambda bond: ("CaF2", {"a": 4 * bond / np.sqrt(3)}),
    "wurtzite": lambda bond: ("ZnO", {"a": bond * np.sqrt(8 / 3), "c": bond * 8 / 3}),
}
BINARIES = tuple(_PLACES)
"""Prototypes of two elements; in fluorite there are two of the second."""


def lattice(z: int, name: str) -> Atoms:
    """The primitive cell of an element in one of `LATTICES`.

    >>> lattice(29, "fcc").get_chemical_formula(), f"{lattice(29, 'fcc').get_volume():.1f}"
    ('Cu', '17.3')
    """
    from ase.build import bulk  # slow to import, and only needed here

    cell = bulk("X", name, a=1.0, c=1.633) if name == "hcp" else bulk("X", name, a=1.0)
    cell.numbers[:] = z
    return scaled(cell, (atomic_volume(z, name) * len(cell) / cell.cell.volume) ** (1 / 3))


def binary(first: int, second: int, name: str) -> Atoms:
    """The primitive cell of two elements in one of `BINARIES`.

    >>> [binary(11, 17, name).get_chemical_formula() for name in ("rocksalt", "fluorite", "wurtzite")]
    ['ClNa', 'Cl2Na', 'Cl2Na2']
    """
    from ase.build import bulk  # slow to import, and only needed here

    formula, lengths = _PLACES[name](_bond(first, second))
    cell = bulk(formula, name, **lengths)
    cell.numbers = np.where(cell.numbers == cell.numbers[0], first, second)
    return cell


def perovskite(large: int, small: int, third: int) -> Atoms:
    """The cubic cell of a perovskite: ``large`` at the corner, ``small`` in the middle, three of the third around it.

    >>> perovskite(38, 22, 8).get_chemical_formula()
    'O3SrTi'
    """
    side = max(2 * _bond(small, third), np.sqrt(2) * _bond(large, third))
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms([large, small, *[third] * 3], scaled_positions=places, cell=[side] * 3, pbc=True)


def atomic_volume(z: int, name: str) -> float:
    """Angstrom^3: of close packed spheres whose distance is 2.2 covalent radii, looser in some lattices."""
    return float((2.2 * covalent_radii[z]) ** 3 / np.sqrt(2) * _PACKING[name])


def scaled(atoms: Atoms, factor: float) -> Atoms:
    """The crystal itself, whose lengths are now this factor of what they were."""
    atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
    return atoms


def with_vacancies(atoms: Atoms, random: np.random.Generator, count: int) -> Atoms:
    """The crystal itself, now without so many of its atoms."""
    del atoms[random.choice(len(atoms), count, replace=False).tolist()]
    return atoms


def enlarged(atoms: Atoms, random: np.random.Generator, most: int = 24) -> Atoms:
    """Half of the small cells repeated up to ``most`` atoms, shortest vector first: room for more kinds of motion."""
    while len(atoms) * 2 <= most and random.random() < 0.6:
        repeats = [1, 1, 1]
        repeats[int(atoms.cell.lengths().argmin())] = 2
        atoms = atoms.repeat(repeats)
    return atoms


def _bond(first: int, second: int) -> float:
    return float(_LOOSER * (covalent_radii[first] + covalent_radii[second]))
