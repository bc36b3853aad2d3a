"""Crystals to distil on, without labels: ``python benchmarks/crystals.py crystals.extxyz``.

Real crystals of up to 20 atoms of the MPtrj and Alexandria samples and of elastic constants, and lattices of every
element; each displaced and strained by an amount of its own. Compositions of the frames that tests keep aside (every
fifth of the MPtrj sample) are left out. ``--published ARCHIVE`` adds the crystals of `published.py`.
"""

import argparse
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from published import published
from reference_data import data_folder, reference

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks.gpu.structures import elemental, not_aside

SIZES = (0.02, 0.05, 0.1, 0.15)
"""Displacements, standard deviation in Angstrom."""


def displaced(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """A copy without labels; strained by 2 %, and by up to 6 % in volume."""
    strain = random.normal(0, 0.02, (3, 3)) + random.uniform(-0.02, 0.02) * np.eye(3)
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    copy.set_cell(copy.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    copy.positions += random.normal(0, random.choice(SIZES), copy.positions.shape)
    return copy


def real(largest: int, archive: Path | None) -> list[Atoms]:
    """Small crystals whose compositions no test has."""
    more = published(archive) if archive else []
    frames = reference("mptrj_sample/mptrj-random-1k.extxyz.xz")
    more += reference("mptrj_sample/alexandria-random-1k.extxyz.xz")
    more += reference("mp_elasticity/mp_binary_pbe_elasticity.extxyz.xz")
    return not_aside((atoms for atoms in frames + more if len(atoms) <= largest), data_folder())


def main() -> None:
    """Write them in random order, so that any first part of the file is a sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--elemental", type=float, default=0.2, help="share of lattices of one element")
    parser.add_argument("--largest", type=int, default=20, help="atoms")
    parser.add_argument("--published", type=Path, metavar="ARCHIVE", help="more crystals, of published.py")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    random = np.random.default_rng(chosen.seed)
    crystals = real(chosen.largest, chosen.published)
    elements = sorted({z for atoms in crystals for z in set(atoms.numbers.tolist())})
    lattices = [atoms for atoms in elemental(elements, random) if 2 <= len(atoms) <= chosen.largest]
    found = []
    for _ in range(chosen.count):
        family = lattices if random.random() < chosen.elemental else crystals
        found.append(displaced(family[random.integers(len(family))], random))
    ase.io.write(chosen.output, found, format="extxyz")
    print(
        f"{len(found)} crystals of {len(crystals)} real ones and {len(lattices)} lattices of {len(elements)} elements"
    )


if __name__ == "__main__":
    main()
