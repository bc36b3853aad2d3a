"""Repair in closed form: how far a pruned model is from its parent before and after, without any training.

``python benchmarks/repair.py 7net-l3i5`` or, in the environment of MACE, ``python benchmarks/repair.py mace-mp-small``.
Structures for the scores and the repair: frames of the MPtrj sample, four of five; tests: every fifth of them as it is
and displaced by 0.1 Angstrom, and frames of DFT dynamics of chemistries that were not looked at in particular. ``--data
lgps_sse_pbe/train_50at.extxyz.xz`` scores and repairs on one chemistry in their place; ``--more crystals.extxyz``
(``benchmarks/crystals.py``) repairs on those as well. Structures with the composition of a test frame are left out.
Rows are the pruned model, the same with its linear maps fitted, and with gains as well, which is what a repair is.
``--beside 7net-compact`` adds rows of other children. ``--steps`` retrains all starts as well, with labels of the
parent: errors after so many steps, for each seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from reference_data import reference

import equiprune as ep
from equiprune.pruning.displacing import RATTLE
from equiprune.pruning.parent_view import ParentView
from equiprune.pruning.repair import WorseError
from equiprune.structures.sampling import spread
from equiprune.training.arguments import TrainingData
from equiprune.training.optimisation import Linear

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks.gpu.structures import compositions, without

DYNAMICS = {
    "Cu": "mlearn/Cu_test.extxyz.xz",
    "Ni": "mlearn/Ni_test.extxyz.xz",
    "Li": "mlearn/Li_test.extxyz.xz",
    "Si": "mlearn/Si_test.extxyz.xz",
    "Li-Ge-P-S": "lgps_sse_pbe/test_50at.extxyz.xz",
}
CUTS: Mapping[str, Mapping[str, list]] = {
    "7net-l3i5": {
        "half width": [ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)],
        "SevenNet-0's irreps": [ep.HiddenIrreps.parse("128x0e+64x1e+32x2e"), ep.EdgeLmax(2)],
    },
    "mace-mp-small": {"64 channels": [ep.Channels(64)]},
    "nequix-oam-1": {
        "l up to 2": [ep.Lmax(2), ep.EdgeLmax(2)],
        "l up to 2, three quarters of the width": [ep.HiddenIrreps.parse("96x0e+48x1o+24x2e"), ep.EdgeLmax(2)],
        "half width": [ep.HiddenIrreps.parse("64x0e+32x1o+16x2e+16x3o")],
    },
}
PRESET = {"7net-l3i5": "sevennet", "mace-mp-small": "mace-universal", "nequix-oam-1": "sevennet"}

Errors = Mapping[str, tuple[float, float]]
"""By set: energy in meV/atom, forces in meV/Angstrom, mean absolute differences from the parent."""


def displaced(structures: Sequence[Atoms]) -> list[Atoms]:
    """Copies without labels."""
    copies = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in structures]
    for seed, atoms in enumerate(copies):
        atoms.rattle(0.1, seed=seed)
    return copies


def tests(kept_aside: Sequence[Atoms], frames: int) -> dict[str, list[Atoms]]:
    """Structures to compare on, by name."""
    sets = {name: reference(path) for name, path in DYNAMICS.items()}
    chosen = {name: found[:: max(len(found) // frames, 1)][:frames] for name, found in sets.items()}
    return chosen | {"MPtrj": list(kept_aside), "MPtrj, displaced": displaced(kept_aside)}


def mixed(few: Sequence[Atoms], many: Sequence[Atoms]) -> list[Atoms]:
    """Structures of both, spread evenly, so that whatever takes every fifth of them takes some of either."""
    places = np.concatenate([(np.arange(len(one)) + 0.5) / len(one) for one in (few, many) if len(one)])
    return [[*few, *many][i] for i in np.argsort(places, kind="stable")]


def errors(model: ep.Potential, right: Mapping[str, list], sets: Mapping[str, list[Atoms]]) -> dict:
    """`Errors` of a model, given what its parent predicts."""
    found = {}
    for name, structures in sets.items():
        pairs = list(zip(model.predict(structures), right[name], strict=True))
        energy = np.mean([abs(float(own.energy - of.energy)) / len(own.forces) for own, of in pairs])
        forces = torch.cat([(own.forces - of.forces).abs().flatten() for own, of in pairs]).mean()
        found[name] = (1e3 * float(energy), 1e3 * float(forces))
    return found


def recipe_of(preset: str, learning_rate: float | None) -> ep.Recipe:
    """A preset's objective and optimisation, four structures a step, the learning rate falling to nothing."""
    known = ep.PRESETS[preset]
    rate = learning_rate or known.optimisation.learning_rate
    return ep.Recipe(known.objective, replace(known.optimisation, learning_rate=rate, schedule=Linear()), 1, 4)


def retrained(start: ep.Potential, data: Sequence[Atoms], recipe: ep.Recipe, steps: int, seed: int) -> ep.Potential:
    """The model after so many steps."""
    recipe = replace(recipe, seed=seed)
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(data)) for _ in range(-(-4 * steps // len(data)))])[: 4 * steps]
    with tempfile.TemporaryDirectory() as folder:
        return ep.train(start, TrainingData([data[i] for i in order]), recipe, Path(folder) / "run")


def repaired(child: ep.Potential, view: ParentView) -> tuple[dict[str, ep.Potential], list[str]]:
    """The pruned model, and with what is fitted to its parent; what was fitted, or why not."""
    models, said = {"pruned": child}, []
    for name, seen in (("maps alone", replace(view, changes=[])), ("repaired", view)):
        try:
            made = ep.repair(child, seen)
            models[name] = made.potential
            said.append(f"{name}: {made.maps} maps, {made.gains} gains")
        except WorseError as error:
            said.append(f"{name}: {error}")
    return models, said


def table(rows: Mapping[str, Errors]) -> str:
    """Errors of models as a table, energy / forces."""
    sets = list(next(iter(rows.values())))
    lines = [f"| meV/atom / meV/Angstrom | {' | '.join(sets)} |", f"| --- |{' --- |' * len(sets)}"]
    cells = {name: [f"{found[s][0]:.1f} / {found[s][1]:.1f}" for s in sets] for name, found in rows.items()}
    return "\n".join([*lines, *(f"| {name} | {' | '.join(row)} |" for name, row in cells.items())])


def asked() -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CUTS)
    parser.add_argument("--cuts", nargs="*", help="some of them only")
    parser.add_argument("--structures", type=int, default=250, help="for the repair")
    parser.add_argument("--largest", type=int, default=16, help="atoms of a structure of MPtrj")
    parser.add_argument("--frames", type=int, default=6, help="of each dynamics")
    parser.add_argument("--data", help="reference data whose frames score and repair, in place of MPtrj's")
    parser.add_argument("--beside", nargs="*", default=[], help="other children of the parent, for rows of their own")
    parser.add_argument("--more", type=Path, help="further structures that repair")
    parser.add_argument("--more-count", type=int, default=1200, help="how many of them, the first")
    parser.add_argument("--rattle", type=float, default=RATTLE, help="displacement of the structures, Angstrom")
    parser.add_argument("--displacements", type=int, help="of each structure; as many as make 6,000 atoms if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the displacements")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, help="of the steps; the preset's if not given")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    """Print a table for each cut."""
    chosen = asked()
    parent = ep.load(chosen.model, dtype=torch.float64)
    frames = [a for a in reference("mptrj_sample/mptrj-random-1k.extxyz.xz") if len(a) <= chosen.largest]
    aside = frames[::5][:20]
    used = without((atoms for i, atoms in enumerate(frames) if i % 5), compositions(aside))[: chosen.structures]
    if chosen.data:
        used = spread(reference(chosen.data), chosen.structures)
    crystals = islice(ep.read_structures(chosen.more), chosen.more_count) if chosen.more else []
    more = without(crystals, compositions(aside))
    seen = mixed(used, more)
    sets = tests(aside, chosen.frames)
    right = {name: parent.predict(structures) for name, structures in sets.items()}
    scores = ep.calibrate(parent, used, limit=60)
    recipe = recipe_of(PRESET[chosen.model], chosen.learning_rate)
    every: dict[str, dict[str, Errors]] = {}
    for cut, targets in CUTS[chosen.model].items():
        if chosen.cuts and cut not in chosen.cuts:
            continue
        child = ep.prune(parent, ep.allocate(parent, targets, scores))
        begun = time.process_time()
        how = {"rattle": chosen.rattle, "displacements": chosen.displacements, "seed": chosen.seed}
        view = ParentView.of(parent, seen, **how)
        models, said = repaired(child, view)
        what, spent = "; ".join(said), time.process_time() - begun
        beside = {name: ep.load(name, dtype=torch.float64) for name in chosen.beside}
        every[cut] = {name: errors(model, right, sets) for name, model in (models | beside).items()}
        print(f"\n{chosen.model}, {cut}: {what}, {len(seen)} structures, {spent:.0f} s of CPU\n")
        if chosen.steps:
            data = list(ep.label(parent, ep.augmented(seen, ep.Augmentation(copies=1))))
            for name, start in models.items():
                single = start.with_dtype(torch.float32)
                for seed in range(chosen.seeds):
                    after = retrained(single, data, recipe, chosen.steps, seed)
                    every[cut][f"{name}, {chosen.steps} steps, seed {seed}"] = errors(after, right, sets)
        print(table(every[cut]), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
