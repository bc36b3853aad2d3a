"""Do atom energies teach more than the energy of the whole? One child, trained with and without that term.

The parent labels small binary crystals; others are tested on. All runs take the same steps; the
term costs nothing that can be measured. Prints errors against the parent, mean and range over seeds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from reference_data import reference

import equiprune as ep
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.label import label
from equiprune.training.objective import sevennet_huber
from equiprune.training.optimisation import Linear, Optimisation
from equiprune.training.recipe import Recipe
from equiprune.training.trainer import train


def crystals(parent: ep.Potential, first: int, count: int, seed: int) -> list[Atoms]:
    """Binary crystals of up to 12 atoms, displaced and strained, with the parent's labels."""
    every = reference("mp_elasticity/mp_binary_pbe_elasticity.extxyz.xz")
    small = [atoms for atoms in every if len(atoms) <= 12 and parent.elements.issuperset(atoms.numbers.tolist())]
    chosen = np.random.default_rng(0).permutation(len(small))[first : first + count]
    bare = [Atoms(small[i].numbers, small[i].positions, cell=small[i].cell, pbc=True) for i in chosen]
    distorted = augmented(bare, Augmentation(copies=1, rattle=0.08, strain=0.02, seed=seed))
    return list(label(parent, list(distorted)[1::2]))


def errors(potential: ep.Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """Mean absolute errors: meV/atom, meV/Angstrom, meV/Angstrom^3."""
    [accuracy] = ep.evaluate({"": potential}, structures)
    return {name: accuracy.mae(name) for name in ("energy", "forces", "stress")}


def said(values: Sequence[dict[str, float]]) -> str:
    """A row of a table: mean and range over seeds."""
    columns = [[value[name] for value in values] for name in values[0]]
    return " | ".join(f"{statistics.mean(c):.1f} ({min(c):.1f}..{max(c):.1f})" for c in columns)


def main() -> None:
    """Print one row for each weight."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="7net-l3i5")
    parser.add_argument("--irreps", default="64x0e+32x1e+16x2e")
    parser.add_argument("--edge-lmax", type=int, default=2)
    parser.add_argument("--structures", type=int, default=160)
    parser.add_argument("--tested", type=int, default=40)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.5, 2.0])
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    parent = ep.load(chosen.model)
    data = crystals(parent, 0, chosen.structures, 1)
    tested = crystals(parent, chosen.structures, chosen.tested, 2)
    targets = [ep.HiddenIrreps.parse(chosen.irreps), ep.EdgeLmax(chosen.edge_lmax)]
    child = ep.prune(parent, ep.allocate(parent, targets, ep.calibrate(parent, data[:24])))
    print(f"{chosen.model} at {chosen.irreps}; {len(data)} crystals, {chosen.steps} steps of 4, {chosen.seeds} seeds")
    print("| weight of atom energies | CPU s | energy, meV/atom | forces, meV/Angstrom | stress, meV/Angstrom^3 |")
    print("|---|---|---|---|---|")
    print(f"| not trained | | {said([errors(child, tested)])} |", flush=True)
    for weight in chosen.weights:
        objective = sevennet_huber()
        objective = replace(objective, atom_energies=replace(objective.atom_energies, weight=weight))
        found, begun = [], time.process_time()
        for seed in range(chosen.seeds):
            optimisation = Optimisation(learning_rate=chosen.rate, schedule=Linear(0.01), clip=None, average=None)
            epochs = -(-chosen.steps * 4 // len(data))
            with tempfile.TemporaryDirectory() as folder:
                recipe = Recipe(objective, optimisation, epochs, 4, seed)
                found.append(errors(train(child, data, recipe, Path(folder) / "run"), tested))
        seconds = (time.process_time() - begun) / chosen.seeds
        print(f"| {weight:g} | {seconds:.0f} | {said(found)} |", flush=True)


if __name__ == "__main__":
    main()
