"""A search beside models picked by hand, all of the same measured speed and trained alike.

``python benchmarks/compress.py 7net-l3i5 --faster 3 --output FOLDER`` or, in the environment of MACE, ``python
benchmarks/compress.py mace-mp-small --faster 2 --output FOLDER``. Structures: frames of the MPtrj sample and one
displaced copy of each, labelled by the parent; tests: as in repair.py, frames and chemistries that were not looked at,
compared with the parent. The models picked by hand have shapes of the paper's tables and even widths, as large as the
speed allows; they are repaired and trained like the one that is found. What is done is kept in FOLDER: interrupted, the
same command goes on, and one for other structures or efforts is refused. The cost model is tested on models that it has
not seen (``--held-out``).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from kept import kept
from reference_data import mptrj
from repair import PRESET, Errors, errors, retrained, table, tests

import equiprune as ep
from equiprune.errors import EquipruneError
from equiprune.files.atomic import replacing, write_text
from equiprune.pruning.counts import PruningProblem
from equiprune.pruning.repair import WorseError
from equiprune.searching.candidates import drawn
from equiprune.searching.cost_model import Conditions, CostModel, Measurement, measured
from equiprune.searching.shapes import shapes

BY_HAND: Mapping[str, Mapping[str, tuple[ep.EdgeLmax, ...]]] = {
    "7net-l3i5": {
        "all l": (),
        "lmax 2 (SevenNet-0's l)": (ep.Lmax(2), ep.EdgeLmax(2)),
        "lmax 1": (ep.Lmax(1), ep.EdgeLmax(1)),
    },
    "mace-mp-small": {
        "channels alone": (),
        "edge lmax 2": (ep.EdgeLmax(2),),
        "correlation 2": (ep.Correlation(2),),
    },
}
ATOMS = 64
KEPT_WITH = ("model", "structures", "candidates", "search_steps", "held_out")
"""Arguments on which what is kept depends beside those that its name says."""
_TURNS = 9
"""Turns in which a model that tests the cost model is measured; more than in a search, which fits many models."""


def labelled(parent: ep.Potential, count: int, path: Path) -> ep.SearchData:
    """Frames and a copy of each, with labels of the parent; from the file where they are there."""
    if not path.exists():
        frames = [atoms for i, atoms in enumerate(mptrj(16)) if i % 5][:count]
        made = list(ep.label(parent, ep.augmented(frames, ep.Augmentation(copies=1))))
        with replacing(path) as temporary:
            ase.io.write(temporary, made, format="extxyz")
    structures = list(ep.read_structures(path))
    return ep.SearchData(structures, np.arange(len(structures)) // 2)


def searched(
    parent: ep.Potential, data: ep.SearchData, budget: ep.Budget, folder: Path, effort: ep.Effort, *targets: ep.EdgeLmax
) -> dict:
    """The outcome of a search as JSON, kept in the folder."""
    result = folder / "search.json"
    if not result.exists():
        begun = time.monotonic()
        settings = ep.SearchSettings(ep.Constraints(targets), effort, timed_atoms=ATOMS)
        watchers = ep.Watchers(note=lambda text: print(f"[{time.monotonic() - begun:5.0f} s] {text}", flush=True))
        found = ep.search(parent, data, budget, folder, settings=settings, watchers=watchers)
        write_text(result, json.dumps(found.to_json() | {"minutes": (time.monotonic() - begun) / 60}))
    return json.loads(result.read_text())


def predictions(parent: ep.Potential, count: int, folder: Path) -> list[tuple[float, float]]:
    """Predicted and measured time of models that the cost model of a search has not seen."""
    path = folder / "held_out.json"
    if not path.exists():
        journal = json.loads((folder / "journal.json").read_text())
        seen = tuple(map(Measurement.from_json, journal["costs"]))
        costs = CostModel(parent.adapter, parent.architecture, seen)
        model = PruningProblem(parent.adapter, parent.architecture, parent.spaces)
        random, every = np.random.default_rng(1000), shapes(model)
        timed = Conditions.of(list(ep.read_structures(folder.parent / "labelled.extxyz")), ATOMS)
        pairs: list[tuple[float, float]] = []
        while len(pairs) < count:
            child = ep.prune(parent, drawn(model, (), every, random))
            pairs.append((costs(child.architecture).time, measured(parent, child, timed, _TURNS).time))
        write_text(path, json.dumps(pairs))
    return [(float(a), float(b)) for a, b in json.loads(path.read_text())]


def repaired(pruned: ep.Potential, parent: ep.Potential, structures: Sequence[Atoms]) -> ep.Potential:
    """The pruned model with its maps fitted; as it is where that would make its forces worse, as a search does."""
    try:
        return ep.repair(pruned, parent, structures).potential
    except WorseError as error:
        print(f"Not repaired: {error}", flush=True)
        return pruned


def trained(
    parent: ep.Potential, plan: ep.PruningPlan, data: ep.SearchData, preset: str, steps: int, seed: int, folder: Path
) -> ep.Potential:
    """The pruned model, repaired and trained; both kept in the folder."""
    path, start = folder / f"seed-{seed}-steps-{steps}", folder / "repaired"
    if not start.exists():
        some = data.structures[:: max(1, len(data.structures) // 120)]
        ep.save(repaired(ep.prune(parent, plan), parent, some), start)
    if not path.exists():
        ep.save(retrained(ep.load(start), data.structures, preset, steps, seed), path)
    return ep.load(path)


def arguments() -> argparse.Namespace:
    """Words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=BY_HAND)
    parser.add_argument("--faster", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--structures", type=int, default=150, help="frames of MPtrj")
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--search-steps", type=int, default=100)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="of the training; 0 tests the cost model alone")
    parser.add_argument("--frames", type=int, default=6, help="of each dynamics")
    parser.add_argument("--held-out", type=int, default=10, help="models that test the cost model")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    """Print the errors of all models, and how well the cost model predicts."""
    asked = arguments()
    kept(asked.output, {name: getattr(asked, name) for name in KEPT_WITH})
    asked.output.mkdir(exist_ok=True)
    parent, budget, preset = ep.load(asked.model), ep.Budget(faster=asked.faster), PRESET[asked.model]
    data = labelled(parent, asked.structures, asked.output / "labelled.extxyz")
    effort = ep.Effort(candidates=asked.candidates, steps=asked.search_steps)
    folder = asked.output / f"found-{asked.faster:g}"
    found = {"found": searched(parent, data, budget, folder, effort)}
    quick = ep.Effort(measured=8, candidates=1, finalists=1, steps=asked.search_steps)
    for name, targets in BY_HAND[asked.model].items() if asked.seeds else ():
        where = asked.output / f"by-hand-{asked.faster:g}-{'-'.join(str(t).lower() for t in targets) or 'all'}"
        try:
            found[f"by hand: {name}"] = searched(parent, data, budget, where, quick, *targets)
        except EquipruneError as error:
            print(f"by hand: {name}: {error}")
    print(f"\n{found['found']['reason']} {found['found']['minutes']:.0f} minutes.\n")
    pairs = predictions(parent, asked.held_out, folder)
    off = [abs(predicted / right - 1) for predicted, right in pairs]
    within = sum(each <= 0.1 for each in off)
    print(f"Times of {len(off)} other models: {np.median(off):.1%} off (median), {within} within 10 %.\n")
    if not asked.seeds:
        return
    exact = parent.with_dtype(torch.float64)
    sets = tests(mptrj(16)[::5][:20], asked.frames)
    right = {name: exact.predict(structures) for name, structures in sets.items()}
    rows: dict[str, Errors] = {}
    every: dict[str, Errors] = {}
    for name, each in found.items():
        plan, speed = ep.PruningPlan.from_json(each["plan"]), each["speed"]
        where = asked.output / f"runs-{asked.faster:g}" / name.replace(" ", "-").replace(":", "")
        where.mkdir(parents=True, exist_ok=True)
        runs = [
            errors(trained(parent, plan, data, preset, asked.steps, seed, where), right, sets)
            for seed in range(asked.seeds)
        ]
        rows[f"{name} ({speed:.2f}x)"] = {s: mean([run[s] for run in runs]) for s in sets}
        for seed, run in enumerate(runs):
            every[f"{name} ({speed:.2f}x), seed {seed}"] = run
        print(table(rows), flush=True)
    print(f"\nEach seed:\n\n{table(every)}")
    if asked.json:
        asked.json.write_text(
            json.dumps({"errors": rows, "seeds": every, "found": found, "predictions": pairs}, indent=1)
        )


def mean(runs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Means over seeds."""
    return float(np.mean([energy for energy, _ in runs])), float(np.mean([forces for _, forces in runs]))


if __name__ == "__main__":
    main()
