"""Small structures on which any model can be checked: ionic, covalent, metallic, and a molecule in a box.

They are made of elements the model knows, rattled and strained so that no force or stress is zero by symmetry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from equiprune.errors import StructureError

_PREFERRED: Mapping[str, list[tuple[str, ...]]] = {
    "ionic": [("Na", "Cl"), ("Mg", "O"), ("Li", "F"), ("K", "Cl"), ("Zn", "O")],
    "covalent": [("Si",), ("C",), ("Ge",), ("Sn",)],
    "metal": [("Cu",), ("Al",), ("Fe",), ("Ni",), ("Li",), ("Na",)],
    "molecule": [("O", "H"), ("C", "O"), ("C", "H"), ("N", "H"), ("Si", "O")],
}


def probe_structures(elements: Iterable[int], seed: int = 0) -> Mapping[str, Atoms]:
    """Four structures of 2 to 8 atoms, by kind of bonding. Chemistry is approximate where elements are missing.

    >>> {kind: atoms.get_chemical_formula() for kind, atoms in probe_structures([1, 8, 11, 14, 17, 29]).items()}
    {'ionic': 'Cl4Na4', 'covalent': 'Si2', 'metal': 'Cu4', 'molecule': 'H2O'}
    """
    known = sorted({z for z in elements if z > 0})
    if not known:
        raise StructureError("The model knows no element, so there is nothing to check it on.")
    generator = np.random.default_rng(seed)
    structures = {kind: _build(kind, *_choose(options, known)) for kind, options in _PREFERRED.items()}
    return {kind: _distorted(atoms, generator) for kind, atoms in structures.items()}


def element_structures(elements: Iterable[int], seed: int = 0) -> list[Atoms]:
    """Loose cells of up to 8 atoms that together contain every element: what is done per element is checked for each.

    >>> [len(atoms) for atoms in element_structures(range(1, 12))]
    [8, 3]
    """
    generator = np.random.default_rng(seed)
    known = sorted({z for z in elements if z > 0})
    corners = 3.0 * np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    cells = []
    for start in range(0, len(known), len(corners)):
        numbers = known[start : start + len(corners)]
        positions = corners[: len(numbers)] + 0.1 * generator.standard_normal((len(numbers), 3))
        cells.append(Atoms(numbers=numbers, positions=positions, cell=[6.0] * 3, pbc=True))
    return cells


_LOOSE = 1.4
"""How much farther apart atoms are put that would not form such a structure, so that forces stay moderate."""


def _choose(options: list[tuple[str, ...]], known: list[int]) -> tuple[tuple[int, ...], float]:
    """Elements for a structure, and the factor on its bond lengths."""
    for option in options:
        numbers = tuple(atomic_numbers[symbol] for symbol in option)
        if set(numbers) <= set(known):
            return numbers, 1.0
    size = len(options[0])
    return tuple((known * size)[:size]), _LOOSE


def _build(kind: str, numbers: tuple[int, ...], stretch: float) -> Atoms:
    from ase.build import bulk  # slow to import, and only needed here

    first, radius = chemical_symbols[numbers[0]], sum(covalent_radii[z] for z in numbers) / len(numbers)
    packed = stretch * max(radius, 1.0)  # hydrogen packed at its own radius would have thousands of neighbours
    match kind:
        case "ionic":
            crystal = bulk("NaCl", "rocksalt", a=4 * packed, cubic=True)
            crystal.numbers = np.where(crystal.numbers == 11, numbers[0], numbers[1])
            return crystal
        case "covalent":
            return bulk(first, "diamond", a=8 * stretch * max(radius, 0.7) / np.sqrt(3))
        case "metal":
            return bulk(first, "fcc", a=2 * packed * np.sqrt(2), cubic=True)
    a, b = numbers
    bond = covalent_radii[a] + covalent_radii[b]
    corners = np.array([[0, 0, 0], [0.78, 0.61, 0.1], [-0.78, 0.61, -0.05]]) * bond
    return Atoms(numbers=[a, b, b], positions=corners + 6, cell=[12.0, 12.5, 13.0], pbc=True)


def _distorted(atoms: Atoms, generator: np.random.Generator) -> Atoms:
    strain = np.eye(3) + 0.02 * generator.standard_normal((3, 3))
    if len(atoms) > 3 or atoms.cell.volume < 1000:
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += 0.05 * generator.standard_normal(atoms.positions.shape)
    return atoms
