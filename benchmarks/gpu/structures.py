"""Starting structures for distillation: real crystals, their chemical neighbours, packed groups, elements alone.

Nothing here has a label, and nothing is at rest: `explore` moves every structure with its teacher's forces. Structures
whose composition occurs in the frames that are kept aside for testing are left out.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, surface
from ase.data import covalent_radii
from ase.io import read

from benchmarks.gpu.packed import packed
from equiprune.files.atomic import replacing
from equiprune.labelling.substitution import exchanged, similar
from equiprune.structures.prototypes import LATTICES, atomic_volume, enlarged, lattice, scaled, with_vacancies

MAX_ATOMS = 80
"""Larger structures are left out: a step of training holds about 2,000 atoms, and many compositions teach more."""


def read_compressed(path: Path) -> list[Atoms]:
    """All structures of an extxyz.xz file; decompressed at once, since reading back and forth in it is slow."""
    return read(io.StringIO(lzma.open(path, "rt").read()), ":", format="extxyz")


def kept_aside(data: Path) -> list[Atoms]:
    """Every fifth frame of the MPtrj sample: 200 for testing, never trained on."""
    return read_compressed(data / "mptrj_sample" / "mptrj-random-1k.extxyz.xz")[::5]


def starting_structures(
    data: Path, elements: frozenset[int], neighbours: int, seed: int, more: Sequence[Atoms] = ()
) -> Iterator[Atoms]:
    """What is `known`, ``more`` crystals among it, then ``neighbours`` decorated ones and as many packed groups."""
    random = np.random.default_rng(seed)
    yield from known(data, elements, random, more)
    yield from invented(families_of(data, elements, more), compositions_aside(data), elements, neighbours, random)


def known(
    data: Path, elements: frozenset[int], random: np.random.Generator, more: Sequence[Atoms] = ()
) -> Iterator[Atoms]:
    """Real crystals several times, lattices of every element, and pairs."""
    for atoms, visits in _real(data, elements, more):
        yield from (enlarged(atoms, random) for _ in range(visits))
    for _ in range(_ELEMENTAL_VISITS):
        yield from elemental(sorted(elements), random)
    yield from _pairs(sorted(elements), random)


def invented(
    families: Sequence[Sequence[Atoms]],
    left_out: Set[str],
    elements: frozenset[int],
    count: int,
    random: np.random.Generator,
) -> Iterator[Atoms]:
    """Crystals of some families in turns, so many, with other elements, and in between groups packed at random.

    What has a composition that is ``left_out``, or an element that is not known, is skipped.
    """
    singles = np.concatenate([np.unique(atoms.numbers) for atoms in families[0]])
    for number in range(count):
        family = families[number % len(families)]
        chosen = family[random.integers(len(family))]
        changed = decorated(chosen, sorted(elements), random, wild=number % 10 == 0)
        made = (enlarged(changed, random), packed(elements, singles, random))
        possible = (atoms for atoms in made if elements.issuperset(atoms.numbers.tolist()))
        yield from (atoms for atoms in possible if formula(atoms) not in left_out)


def families_of(data: Path, elements: frozenset[int], more: Sequence[Atoms] = ()) -> Sequence[Sequence[Atoms]]:
    """Crystals that are to be decorated: those of three elements and more twice as often as prototypes and as all."""
    crystals = [atoms for atoms, _ in _real(data, elements, more)]
    rich = [atoms for atoms in crystals if len(set(atoms.numbers)) > 2]
    return rich, rich, prototypes(), crystals


def compositions_aside(data: Path) -> frozenset[str]:
    """Compositions of the frames that are kept aside."""
    return compositions(kept_aside(data))


def compositions(structures: Iterable[Atoms]) -> frozenset[str]:
    """Compositions of structures."""
    return frozenset(formula(atoms) for atoms in structures)


def not_aside(structures: Iterable[Atoms], data: Path) -> list[Atoms]:
    """Structures, in their order, whose composition no frame has that is kept aside."""
    return without(structures, compositions_aside(data))


def without(structures: Iterable[Atoms], left_out: Set[str]) -> list[Atoms]:
    """Structures, in their order, that have none of these compositions."""
    return [atoms for atoms in structures if formula(atoms) not in left_out]


def prototypes() -> list[Atoms]:
    """Crystals of the AFLOW encyclopedia (Mehl and others 2017) that pymatgen carries, up to `MAX_ATOMS` atoms."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
    from pymatgen.io.ase import AseAtomsAdaptor

    found = [AseAtomsAdaptor.get_atoms(each["snl"].structure) for each in AFLOW_PROTOTYPE_LIBRARY]
    return [
        Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True) for atoms in found if len(atoms) <= MAX_ATOMS
    ]


def write_starting(structures: Sequence[Atoms], path: Path) -> None:
    """All in one compressed file of arrays."""
    with replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            numbers=np.concatenate([atoms.numbers for atoms in structures]).astype(np.uint8),
            positions=np.concatenate([atoms.positions for atoms in structures]).astype(np.float32),
            cells=np.stack([atoms.cell.array for atoms in structures]).astype(np.float32),
            sizes=np.array([len(atoms) for atoms in structures]),
        )


def read_starting(path: Path) -> list[Atoms]:
    """What `write_starting` wrote."""
    with np.load(path) as stored:
        numbers, positions, cells, sizes = (stored[name] for name in ("numbers", "positions", "cells", "sizes"))
    ends = sizes.cumsum()
    return [
        Atoms(numbers[end - size : end].astype(int), positions[end - size : end], cell=cell, pbc=True)
        for size, end, cell in zip(sizes, ends, cells.astype(float), strict=True)
    ]


_VISITS = {"mptrj": 12, "alexandria": 6, "binary": 2, "published": 4}
"""Starts from each real crystal, by where it is from: rich compositions more often than binaries."""
_ELEMENTAL_VISITS = 3
"""Starts from each lattice of each element, with other vacancies and kicks."""


def _real(data: Path, elements: frozenset[int], more: Sequence[Atoms]) -> Iterator[tuple[Atoms, int]]:
    left_out = compositions_aside(data)
    mptrj = read_compressed(data / "mptrj_sample" / "mptrj-random-1k.extxyz.xz")
    sources = {
        "mptrj": [atoms for number, atoms in enumerate(mptrj) if number % 5],
        "alexandria": read_compressed(data / "mptrj_sample" / "alexandria-random-1k.extxyz.xz"),
        "binary": read_compressed(data / "mp_elasticity" / "mp_binary_pbe_elasticity.extxyz.xz"),
        "published": more,
    }
    for source, structures in sources.items():
        for atoms in structures:
            known = elements.issuperset(atoms.numbers.tolist())
            if known and len(atoms) <= MAX_ATOMS and formula(atoms) not in left_out:
                yield Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True), _VISITS[source]


def formula(atoms: Atoms) -> str:
    """The composition in lowest terms, in Hill's order."""
    return str(atoms.symbols.formula.reduce()[0].format("hill"))


def decorated(atoms: Atoms, elements: Sequence[int], random: np.random.Generator, *, wild: bool) -> Atoms:
    """The same crystal of other elements, at the volume their covalent radii ask for.

    Each element is exchanged with a probability of 0.7: for a similar one, or, if ``wild``, for any.
    """
    present = sorted(set(atoms.numbers.tolist()))
    others = {z: _substitute(z, elements, random, wild=wild) for z in present if random.random() < 0.7}
    return exchanged(atoms, others)


def _substitute(z: int, elements: Sequence[int], random: np.random.Generator, *, wild: bool) -> int:
    family = elements if wild else sorted(similar(z).intersection(elements))
    return int(random.choice(family)) if family else z


def elemental(elements: Sequence[int], random: np.random.Generator) -> Iterator[Atoms]:
    """Lattices, supercells with vacancies, and slabs of every element."""
    for z in elements:
        for name in LATTICES:
            cell = lattice(z, name)
            yield cell.repeat(2)
            yield with_vacancies(cell.repeat(3), random, int(random.integers(1, 4)))
        yield surface(lattice(z, "fcc"), [(1, 0, 0), (1, 1, 0), (1, 1, 1)][z % 3], 4, vacuum=6.0, periodic=True)
        yield surface(lattice(z, "bcc"), [(1, 1, 0), (1, 0, 0)][z % 2], 4, vacuum=6.0, periodic=True).repeat((2, 1, 1))
        conventional = bulk("Si", "diamond", a=1.0, cubic=True)
        conventional.numbers[:] = z
        diamond = scaled(conventional, (8 * atomic_volume(z, "diamond")) ** (1 / 3))
        for size in ((1, 1, 1), (2, 1, 1), (2, 2, 1)):
            yield with_vacancies(diamond.repeat(size), random, int(random.integers(0, 2)))


def _pairs(elements: Sequence[int], random: np.random.Generator) -> Iterator[Atoms]:
    """Two or three atoms in a large box, from bond lengths to beyond the cutoff: dimers of every element and others."""
    for z in elements * 3:
        for other in (z, int(random.choice(elements))):
            distance = float(random.uniform(0.85, 2.4)) * (covalent_radii[z] + covalent_radii[other])
            yield Atoms([z, other], [[0, 0, 0], [distance, 0, 0]], cell=[16.0, 15.0, 15.0], pbc=True)
