"""Crystals of molecules, molecular ions and coordination polyhedra, packed at random with other atoms.

Binary crystals and elements have no carbonate, no nitrile and no water of hydration, as many compounds do.
Nothing here is at rest or likely: `explore` relaxes it with the teacher's forces.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2
from ase.data import atomic_numbers, covalent_radii
from scipy.spatial.transform import Rotation

from equiprune.structures.prototypes import atomic_volume

MOST_ATOMS = 36
"""Atoms of one crystal."""
_APART = 0.98
"""Atoms of two groups are no closer than this many sums of covalent radii: as far as bonds are long."""
_IMAGES = np.array(list(product((-1, 0, 1), repeat=3)))
_TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
_TRIANGLE = np.array([[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [-0.5, -np.sqrt(0.75), 0]])
_OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
_POLYHEDRA = (
    (_TRIANGLE, "C N B", "O"),
    (_TRIANGLE * [1, 1, 0.8] - [0, 0, 0.4], "S Se Te As Sb P Cl Br I", "O S Se"),
    (_TETRAHEDRON, "P S Cl Si As V Cr Mn Mo W Se Ge B Al Ga Zn Nb Ta Re Be Sn Ti Fe Co I", "O"),
    (_TETRAHEDRON, "P Ge Sn As Sb V Nb Ta Mo W Si Al Ga In Zn Cd Fe Cu Re Cr", "S Se"),
    (_TETRAHEDRON, "B Al Zn Cu Co Ni Fe Mn Be Cd Hg Pd", "F Cl Br I H N"),
    (_OCTAHEDRON, "P As Sb Si Ge Sn Ti Zr Hf Nb Ta Al Pt Ir Mn Cr V Mo W Te I Fe Ru Rh Sc Y U", "F Cl Br O"),
    (_OCTAHEDRON[:4], "Cu Pd Pt Au Ni Ag", "O S Cl N F"),
)
"""Places around a centre, centres, and what surrounds them."""
_CHAINS = (
    "C N",
    "N N N",
    "S C N",
    "O C N",
    "C C",
    "N O",
    "O N O",
    "O H",
    "S S",
    "O O",
    "S H",
    "O C O",
    "O U O",
    "S C S",
)
"""Ions in a row, whose bonds are short."""


def packed(elements: frozenset[int], singles: Sequence[int], random: np.random.Generator) -> Atoms:
    """One to five groups of one or two kinds and up to six single atoms, in a cell that just holds them.

    Single atoms are drawn from ``singles``, which may have an element many times.
    """
    kinds = [_group(elements, random) for _ in range(int(random.integers(1, 3)))]
    groups = [kinds[int(random.integers(len(kinds)))] for _ in range(int(random.integers(1, 6)))]
    others = random.choice(singles, int(random.integers(1, 3)))
    groups += [Atoms([int(random.choice(others))]) for _ in range(int(random.integers(0, 7)))]
    while sum(map(len, groups)) > MOST_ATOMS and len(groups) > 1:
        groups.pop()
    volume = sum(atomic_volume(z, "sc") for group in groups for z in group.numbers) * random.uniform(0.8, 1.4)
    shape = np.eye(3) + 0.25 * random.uniform(-1, 1, (3, 3))
    cell = shape * (volume / abs(np.linalg.det(shape))) ** (1 / 3)
    while (found := _placed(groups, cell, random)) is None:
        cell = 1.06 * cell
    return found


def _group(elements: frozenset[int], random: np.random.Generator) -> Atoms:
    """A molecule, a polyhedron or a chain, of known elements alone."""
    makers = (_molecule, _polyhedron, _polyhedron, _chain)
    while True:
        found = makers[int(random.integers(len(makers)))](random)
        if elements.issuperset(found.numbers.tolist()):
            return found


def _molecule(random: np.random.Generator) -> Atoms:
    found = molecule(str(random.choice(g2.names)))
    return Atoms(found.numbers, found.positions)


def _polyhedron(random: np.random.Generator) -> Atoms:
    """A centre with its ligands, one of which may be of another kind, or missing."""
    places, centres, ligands = _POLYHEDRA[int(random.integers(len(_POLYHEDRA)))]
    centre = atomic_numbers[str(random.choice(centres.split()))]
    around = [atomic_numbers[str(z)] for z in random.choice(ligands.split(), 1 + (random.random() < 0.2))]
    numbers = [around[-1], *[around[0]] * (len(places) - 1)]
    kept = len(places) - int(random.random() < 0.15)
    bonds = np.array([0.95 * (covalent_radii[centre] + covalent_radii[z]) for z in numbers])
    positions = [[0, 0, 0], *(places * bonds[:, None])[:kept]]
    return Atoms([centre, *numbers[:kept]], positions)


def _chain(random: np.random.Generator) -> Atoms:
    numbers = [atomic_numbers[symbol] for symbol in str(random.choice(_CHAINS)).split()]
    radii = covalent_radii[numbers]
    places = np.concatenate([[0.0], np.cumsum(0.88 * (radii[1:] + radii[:-1]))])
    return Atoms(numbers, np.stack([places, 0 * places, 0 * places], 1))


def _placed(groups: Sequence[Atoms], cell: np.ndarray, random: np.random.Generator, tries: int = 20) -> Atoms | None:
    """Groups turned and put into a cell one after another; None where one finds no place that is free."""
    shifts = _IMAGES @ cell
    there = Atoms(cell=cell, pbc=True)
    for group in sorted(groups, key=len, reverse=True):
        for _ in range(tries):
            turned = Rotation.random(rng=random).apply(group.positions) + random.uniform(0, 1, 3) @ cell
            new = Atoms(group.numbers, turned)
            if _free(new, there, shifts):
                there = there + new
                break
        else:
            return None
    there.wrap()
    return there


def _free(new: Atoms, there: Atoms, shifts: np.ndarray) -> bool:
    """No atom of a group is too close to others, nor to those of the group's own images."""
    itself = np.arange(len(_IMAGES)) == len(_IMAGES) // 2
    for others, images in ((there, shifts), (new, shifts[~itself])):
        moved = others.positions[None] + images[:, None]
        distances = np.linalg.norm(new.positions[:, None, None] - moved[None], axis=3)
        radii = covalent_radii[new.numbers][:, None, None] + covalent_radii[others.numbers][None, None]
        if (distances < _APART * radii).any():
            return False
    return True
