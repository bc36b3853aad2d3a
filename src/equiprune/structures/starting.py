"""Starting structures where there are no data at all: simple crystals, defects, disorder and pairs of some elements.

None is at rest and none has a label. They are where copies, walks and a teacher's labels begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from equiprune.errors import TargetError
from equiprune.structures.closeness import too_close
from equiprune.structures.prototypes import (
    BINARIES,
    LATTICES,
    atomic_volume,
    binary,
    enlarged,
    lattice,
    perovskite,
    scaled,
    with_vacancies,
)

LEAST_ATOMS = 8
"""The smallest `max_atoms`: room for every prototype and for a vacancy."""
_HEAVIEST = 96
"""Heavier elements have no covalent radius."""
CLOSEST = 0.5
"""Fraction of the sum of covalent radii: no two atoms are closer."""
_APART = 0.75
"""The same for atoms that are put into a cell at random."""
_STRETCH = (0.93, 1.10)
"""Lengths relative to the guess of a crystal: guesses are some percent wrong, and an equation of state is wide."""
_SQUEEZE = (0.72, 0.92)
"""The same of compressed crystals, for the repulsive wall."""
_DISTANCE = (0.6, 2.6)
"""Distance of a pair relative to the sum of its covalent radii."""
_RATTLES = (0.0, 0.03, 0.1, 0.25)
"""Angstrom, standard deviation of each coordinate."""
_STRAINS = (0.0, 0.02, 0.05)
"""Standard deviation of each component of a deformation."""


@dataclass(frozen=True)
class _Draw:
    """One structure to be: elements as they were drawn, how often all had a turn before, chance, and the most atoms."""

    elements: Sequence[int]
    turn: int
    random: np.random.Generator
    most: int

    def among(self, names: Sequence[str]) -> str:
        """One of some names, each in turn for each of the elements, so that all are met."""
        return names[self.turn % len(names)]


def starting_structures(
    elements: Sequence[int], count: int = 200, *, seed: int = 0, max_atoms: int = 40
) -> Iterator[Atoms]:
    """So many structures of some elements, by atomic number; ``info["config_type"]`` says of which kind each is.

    Kinds take turns, so that any first part has all of them that the number of elements allows: lattices of elements,
    compounds of two (and the perovskite, of three), each with vacancies and compressed, random cells, pairs of atoms.
    Each depends on nothing but the elements, the seed, ``max_atoms`` and its place: a larger set holds the smaller one.

    Raises:
        TargetError: no elements, one of them twice or without a covalent radius, or numbers that are too small.

    >>> found = list(starting_structures([3, 15, 16], 40, max_atoms=16))
    >>> len(found), max(map(len, found)), sorted({z for atoms in found for z in atoms.numbers.tolist()})
    (40, 16, [3, 15, 16])
    """
    check_starting(elements, count, max_atoms)
    return islice(_endless(list(elements), seed, max_atoms), count)


def check_starting(elements: Sequence[int], count: int, max_atoms: int) -> None:
    """Raise `TargetError` for what `starting_structures` cannot do."""
    unknown = [chemical_symbols[z] if 0 < z < len(chemical_symbols) else str(z) for z in elements if not _has_radius(z)]
    if unknown:
        raise TargetError(f"`elements` {', '.join(unknown)} have no covalent radius: give elements from H to Cm.")
    if not elements or len(set(elements)) < len(elements):
        raise TargetError("`elements` names each element once, and at least one: give e.g. Li,P,S.")
    if count < 1:
        raise TargetError(f"`count` {count} is not possible: give 1 or more.")
    if max_atoms < LEAST_ATOMS:
        raise TargetError(f"`max_atoms` {max_atoms} is not possible: give {LEAST_ATOMS} or more.")


def _has_radius(z: int) -> bool:
    return 1 <= z <= _HEAVIEST


def _endless(elements: list[int], seed: int, most: int) -> Iterator[Atoms]:
    kinds = [kind for kind in _KINDS if kind.elements <= len(elements)]
    number = 0
    while True:
        turn, place = divmod(number, len(kinds))
        random = np.random.default_rng([seed, number])
        first, others = elements[turn % len(elements)], [z for z in elements if z != elements[turn % len(elements)]]
        drawn = [first, *random.permutation(others).tolist()]
        name, atoms = kinds[place].make(_Draw(drawn, turn // len(elements), random, most))
        yield Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info={"config_type": name})
        number += 1


Made = tuple[str, Atoms]
"""A structure, and what it is called."""


def _element(draw: _Draw) -> Made:
    name = draw.among(LATTICES)
    return name, lattice(draw.elements[0], name)


def _compound(draw: _Draw) -> Made:
    name, (first, second, *_) = draw.among(BINARIES), draw.elements
    return name, binary(first, second, name)


def _perovskite(draw: _Draw) -> Made:
    first, second, third, *_ = draw.elements
    return "perovskite", perovskite(first, second, third)


def _distorted(make: Callable[[_Draw], Made]) -> Callable[[_Draw], Made]:
    """A crystal, larger or not, at some strain and with some displacements."""

    def made(draw: _Draw) -> Made:
        name, crystal = make(draw)
        stretched = scaled(enlarged(crystal, draw.random, draw.most), draw.random.uniform(*_STRETCH))
        return name, _shaken(stretched, draw.random)

    return made


def _with_holes(make: Callable[[_Draw], Made]) -> Callable[[_Draw], Made]:
    """A supercell of a crystal, from which up to three atoms are taken."""

    def made(draw: _Draw) -> Made:
        name, crystal = make(draw)
        while 2 * len(crystal) <= draw.most:
            repeats = [1, 1, 1]
            repeats[int(crystal.cell.lengths().argmin())] = 2
            crystal = crystal.repeat(repeats)
        gone = int(draw.random.integers(1, min(3, len(crystal) - 1) + 1))
        return f"{name} with vacancies", _shaken(with_vacancies(crystal, draw.random, gone), draw.random)

    return made


def _compressed(make: Callable[[_Draw], Made]) -> Callable[[_Draw], Made]:
    """A crystal under pressure."""

    def made(draw: _Draw) -> Made:
        name, crystal = make(draw)
        squeezed = scaled(enlarged(crystal, draw.random, draw.most), draw.random.uniform(*_SQUEEZE))
        return f"{name}, compressed", _shaken(squeezed, draw.random)

    return made


def _random_cell(draw: _Draw) -> Made:
    """Atoms of up to three of the elements at random places of a random cell, looser until all have found one."""
    random, size = draw.random, int(draw.random.integers(2, min(draw.most, 20) + 1))
    chosen = draw.elements[: int(random.integers(1, 4))]
    numbers = [draw.elements[0], *random.choice(chosen, size - 1).tolist()]
    volume = sum(atomic_volume(z, "sc") for z in numbers) * random.uniform(0.8, 1.6)
    shape = np.eye(3) + 0.2 * random.uniform(-1, 1, (3, 3))
    cell = shape * (volume / abs(np.linalg.det(shape))) ** (1 / 3)
    while (found := _filled(numbers, cell, random)) is None:
        cell = 1.05 * cell
    return "random", found


def _filled(numbers: Sequence[int], cell: np.ndarray, random: np.random.Generator, tries: int = 40) -> Atoms | None:
    """Atoms put into a cell one after another; None where one finds no place that is free."""
    atoms = Atoms(cell=cell, pbc=True)
    for z in numbers:
        for _ in range(tries):
            more = atoms + Atoms([z], positions=[random.uniform(0, 1, 3) @ cell])
            if not too_close(more, _APART):
                break
        else:
            return None
        atoms = more
    return atoms


def _pair(draw: _Draw) -> Made:
    """Two atoms, alike or not, in vacuum."""
    first, second = draw.elements[0], int(draw.random.choice(draw.elements))
    distance = draw.random.uniform(*_DISTANCE) * (covalent_radii[first] + covalent_radii[second])
    return "dimer", Atoms([first, second], positions=[[0, 0, 0], [0, 0, distance]])


def _shaken(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """Deformed and displaced by one of some amounts, less where atoms would come too close."""
    rattle, strain = random.choice(_RATTLES), random.choice(_STRAINS)
    deformation, moves = random.standard_normal((3, 3)), random.standard_normal(atoms.positions.shape)
    for share in (1.0, 0.5, 0.25, 0.0):
        moved = atoms.copy()
        moved.set_cell(moved.cell.array @ (np.eye(3) + share * strain * deformation), scale_atoms=True)
        moved.positions += share * rattle * moves
        if not too_close(moved, CLOSEST):
            break
    return moved


@dataclass(frozen=True)
class _Kind:
    """A kind of structures, and the fewest elements that it needs."""

    elements: int
    make: Callable[[_Draw], Made]


_KINDS = (
    _Kind(1, _distorted(_element)),
    _Kind(2, _distorted(_compound)),
    _Kind(1, _pair),
    _Kind(3, _distorted(_perovskite)),
    _Kind(1, _random_cell),
    _Kind(2, _compressed(_compound)),
    _Kind(2, _with_holes(_compound)),
    _Kind(1, _with_holes(_element)),
    _Kind(2, _distorted(_compound)),
    _Kind(1, _compressed(_element)),
)
"""In their turn."""


def counted(structures: Sequence[Atoms]) -> Mapping[str, int]:
    """Counts of each kind, most first.

    >>> counted([Atoms("H", info={"config_type": "dimer"})])
    {'dimer': 1}
    """
    names = [atoms.info["config_type"] for atoms in structures]
    return {name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))}
