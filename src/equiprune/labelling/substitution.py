"""Copies of structures with other elements: a few crystals become many compositions that a teacher can label.

An element is exchanged for one that often takes its place in a crystal, and the volume becomes the one that covalent
radii ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from equiprune.errors import StructureError, TargetError
from equiprune.files.settings import kind
from equiprune.labelling.unlabelled import without_labels
from equiprune.structures.sequences import Origin

FAMILIES = tuple(
    frozenset(atomic_numbers[symbol] for symbol in line.split())
    for line in """
    Li Na K Rb Cs Ag Tl
    Be Mg Ca Sr Ba Zn Cd
    Sc Y La Lu Al Ga In
    La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Y Sc
    Th Pa U Np Pu Ac Ce
    Ti Zr Hf V Nb Ta Sn
    Cr Mo W Mn Tc Re
    Fe Co Ni Cu Mn Cr V
    Ru Rh Pd Os Ir Pt Au Ag
    Zn Cd Hg Cu Mg
    B Al Ga In Tl
    C Si Ge Sn Pb
    N P As Sb Bi
    O S Se Te
    F Cl Br I
    H F Cl Li
    He Ne Ar Kr Xe
    """.strip().splitlines()
)
"""Elements that often take each other's place: groups of the periodic table, and neighbours in a row."""


@kind("substitution")
@dataclass(frozen=True)
class Substitution:
    """Copies of each structure in which elements are exchanged for similar ones.

    Attributes:
        copies: per structure, besides the structure itself.
        elements: atomic numbers that may come in; empty for all that the teacher knows.
        share: of a structure's elements that are exchanged on average, at least one.
        seed: of the choice.
    """

    copies: int = 0
    elements: tuple[int, ...] = ()
    share: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies < 0:
            raise TargetError(f"`copies` {self.copies} is not possible: give 0 or a positive number.")
        if not 0 < self.share <= 1:
            raise TargetError(f"`share` {self.share} is not possible: give more than 0 and at most 1.")


def substituted(
    structures: Iterable[Atoms], substitution: Substitution, known: Set[int], first: int = 0
) -> Iterator[Atoms]:
    """Each structure without its labels, followed by copies with other elements of those that are ``known``.

    What is drawn for a structure depends on nothing but the seed and its place among the others, counted from
    ``first``.

    Raises:
        StructureError: no element of a structure has a similar one that may come in.
    """
    allowed = frozenset(substitution.elements or known) & frozenset(known)
    for number, atoms in enumerate(structures, first):
        bare = without_labels(atoms)
        yield bare
        generator = np.random.default_rng([substitution.seed, number])
        for _ in range(substitution.copies):
            chosen = _chosen(bare, allowed, substitution.share, generator)
            if not chosen:
                raise StructureError(_nothing(Origin(number).of(atoms), bare, allowed))
            yield exchanged(bare, chosen)


def exchanged(atoms: Atoms, others: Mapping[int, int]) -> Atoms:
    """The structure with other elements, by atomic number, at the volume that their covalent radii ask for.

    Initial charges and magnetic moments are left out: they were those of the elements before.

    >>> salt = Atoms("NaCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[3.5, 3.5, 3.5], pbc=True)
    >>> larger = exchanged(salt, {11: 19})
    >>> larger.get_chemical_formula(), f"{larger.cell.lengths()[0]:.2f}"
    ('ClK', '4.15')
    """
    numbers = np.array([others.get(z, z) for z in atoms.numbers.tolist()])
    before, after = ((covalent_radii[n] ** 3).sum() for n in (atoms.numbers, numbers))
    factor = float((after / before) ** (1 / 3))
    changed = Atoms(numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=dict(atoms.info))
    if changed.pbc.any():
        changed.set_cell(changed.cell.array * factor, scale_atoms=True)
    else:
        centre = changed.positions.mean(axis=0)
        changed.positions = centre + factor * (changed.positions - centre)
    return changed


def similar(number: int) -> frozenset[int]:
    """Elements that often take the place of one.

    >>> sorted(chemical_symbols[z] for z in similar(8))
    ['S', 'Se', 'Te']
    """
    return frozenset().union(*(family for family in FAMILIES if number in family)) - {number}


def _chosen(atoms: Atoms, allowed: frozenset[int], share: float, generator: np.random.Generator) -> dict[int, int]:
    """New elements by old; no two become one, and none becomes one that is there already."""
    present = sorted(set(atoms.numbers.tolist()))
    possible = {z: sorted((similar(z) & allowed) - set(present)) for z in present}
    order = generator.permutation([z for z in present if possible[z]]).tolist()
    chosen: dict[int, int] = {}
    for place, z in enumerate(order):
        free = [other for other in possible[z] if other not in chosen.values()]
        if free and (place == 0 or generator.random() < share):
            chosen[z] = int(generator.choice(free))
    return chosen


def _nothing(which: str, atoms: Atoms, allowed: frozenset[int]) -> str:
    wanted = sorted({chemical_symbols[z] for own in set(atoms.numbers.tolist()) for z in similar(own)})
    given = ", ".join(chemical_symbols[z] for z in sorted(allowed))
    return (
        f"{which}: none of its elements has a similar one among {given}. Similar ones are "
        f"{', '.join(wanted) or 'not known'}: allow one of them, or leave the structure out."
    )
