"""Differences of models from their parent, on crystals at rest and shaken, of compositions kept aside and trained on.

``python benchmarks/closeness.py NAME=MODEL ...``. Crystals of up to 40 atoms, 40 of each kind: every fifth frame of the
MPtrj sample, which no training of the flagship sees, others of it, and the Alexandria sample, whose crystals it starts
from. Prints mean absolute differences of forces from those of the parent, meV/Angstrom, and of energies, meV/atom.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from reference_data import data_folder, reference

import equiprune as ep

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks.gpu.structures import not_aside

LARGEST = 40
"""Atoms."""
COUNT = 40


def chosen(structures: Sequence[Atoms], random: np.random.Generator) -> list[Atoms]:
    """Some of the small ones."""
    small = [atoms for atoms in structures if len(atoms) <= LARGEST]
    return [small[i] for i in random.permutation(len(small))[:COUNT]]


def shaken(structures: Sequence[Atoms], size: float) -> list[Atoms]:
    """Copies whose coordinates are displaced by a standard deviation in Angstrom."""
    copies = [atoms.copy() for atoms in structures]
    for seed, atoms in enumerate(copies):
        atoms.rattle(size, seed=seed)
    return copies


def kinds() -> dict[str, list[Atoms]]:
    """Crystals by where they are from and how far they are from rest."""
    random = np.random.default_rng(0)
    frames = reference("mptrj_sample/mptrj-random-1k.extxyz.xz")
    aside = chosen(frames[::5], random)
    met = chosen(reference("mptrj_sample/alexandria-random-1k.extxyz.xz"), random)
    seen = chosen(not_aside(frames, data_folder()), np.random.default_rng(1))
    found = {"MPtrj, kept aside": aside}
    found |= {f"the same, displaced by {size} Angstrom": shaken(aside, size) for size in (0.03, 0.1, 0.2)}
    found |= {"MPtrj, trained on": seen, "Alexandria, trained on": met}
    return found | {"the same, displaced by 0.05 Angstrom": shaken(met, 0.05)}


def main() -> None:
    """Print one row for each kind of crystals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="NAME=MODEL")
    parser.add_argument("--parent", default="7net-l3i5")
    parser.add_argument("--only", default="", help="kinds whose names begin so")
    arguments = parser.parse_args()
    parent = ep.load(arguments.parent)
    models = {name: ep.load(path) for name, path in (entry.split("=", 1) for entry in arguments.models)}
    print(
        f"| crystals | mean force of {arguments.parent} | {' | '.join(f'{name}, forces | energy' for name in models)} |"
    )
    print("|---" * (2 + 2 * len(models)) + "|")
    for name, structures in kinds().items():
        if not name.startswith(arguments.only):
            continue
        sizes = np.array([len(atoms) for atoms in structures])
        energy, forces = predicted(parent, structures)
        cells = [f"{1e3 * np.abs(forces).mean():.0f}"]
        for model in models.values():
            its_energy, its_forces = predicted(model, structures)
            cells.append(f"{1e3 * np.abs(its_forces - forces).mean():.1f}")
            cells.append(f"{1e3 * np.abs((its_energy - energy) / sizes).mean():.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def predicted(model: ep.Potential, structures: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Energies (structures,) eV and forces (atoms, 3) eV/Angstrom."""
    found = model.predict(structures)
    return np.array([p.energy.item() for p in found]), np.concatenate([p.forces.numpy() for p in found])


if __name__ == "__main__":
    main()
