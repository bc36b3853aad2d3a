"""Does it pay to teach second derivatives? The same student trained for the same CPU time with and without them.

A step that compares Hessian rows costs more, so it gets fewer steps: the cost of a step is measured first, in CPU time,
and each run gets as many epochs as the same time allows. The parent labels distorted cells of Si and Cu with energies,
forces and rows of the Hessian; the student starts from pruned weights and from random ones.
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

import equiprune as ep
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.hessian_labels import with_products
from equiprune.labelling.label import label
from equiprune.potentials.hessian import Rows, hessian_vector_products
from equiprune.structures.labels import Labels
from equiprune.training.from_scratch import from_scratch
from equiprune.training.objective import Absolute, Norm, Objective, Term
from equiprune.training.optimisation import Linear, Optimisation
from equiprune.training.recipe import Recipe
from equiprune.training.trainer import train

BATCH = 4
FIRST = Objective(Term(5.0, Absolute()), Term(100.0, Norm()))
"""Weights of energy and forces as in ASK-Berkeley/MLFF-distill, which gives the Hessian 200."""
OPTIMISATION = Optimisation(learning_rate=5e-3, schedule=Linear(0.01), amsgrad=True, clip=100.0, average=0.99)


def taught(parent: ep.Potential, count: int, seed: int, rows: int) -> list[Atoms]:
    """Distorted cells of 2 and 4 atoms with the parent's labels."""
    cells = [bulk("Si"), bulk("Cu", cubic=True)]
    distorted = augmented(cells, Augmentation(copies=count // 2, rattle=0.1, strain=0.02, seed=seed))
    bare = [atoms for i, atoms in enumerate(distorted) if i % (count // 2 + 1)]  # without the perfect crystals
    return list(with_products(parent, label(parent, bare), Rows(rows, seed)))


def run(
    start: ep.Potential, data: Sequence[Atoms], held_out: Sequence[Atoms], weight: float, epochs: int, seed: int
) -> tuple[ep.Potential, float, list[dict[str, float]]]:
    """The trained model, the CPU seconds that took, and its curve: a row per epoch."""
    objective = replace(FIRST, hessian=Term(weight, Norm()))
    recipe = Recipe(objective, OPTIMISATION, epochs, BATCH, seed)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trained = train(start, ep.TrainingData(data, held_out), recipe, Path(folder) / "run")
        seconds = time.process_time() - begun
        with (Path(folder) / "run" / "curve.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["validation_forces"]]
    keep = ("step", "seconds", "validation_energy", "validation_forces", "validation_hessian")
    return trained, seconds, [{name: float(row[name]) for name in keep if name in row} for row in rows]


def seconds_per_epoch(start: ep.Potential, data: Sequence[Atoms], held_out: Sequence[Atoms], weight: float) -> float:
    """CPU time; the difference of two runs, so that what is done once does not count."""
    run(start, data[:BATCH], held_out, weight, 1, 0)
    (_, short, _), (_, long, _) = (run(start, data, held_out, weight, epochs, 0) for epochs in (1, 3))
    return (long - short) / 2


def errors(potential: ep.Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """Mean absolute errors: meV/atom, meV/Angstrom, and meV/Angstrom^2 over the labelled rows of the Hessian."""
    [accuracy] = ep.evaluate({"": potential}, structures)
    labels = [Labels.of(atoms).hessian for atoms in structures]
    found = hessian_vector_products(potential, structures, [its.vectors for its in labels])
    differences = [(a - its.products).flatten() for a, its in zip(found, labels, strict=True)]
    hessian = 1000 * float(np.abs(np.concatenate(differences)).mean())
    return {"energy": accuracy.mae("energy"), "forces": accuracy.mae("forces"), "hessian": hessian}


def starts(parent: ep.Potential, channels: int, seeds: int) -> dict[str, list[ep.Potential]]:
    """Models of one architecture by where their weights come from, one per seed."""
    calibration = list(augmented([bulk("Si"), bulk("Cu", cubic=True)], Augmentation(copies=5, seed=99)))
    pruned = ep.prune(parent, ep.allocate(parent, [ep.Channels(channels)], ep.calibrate(parent, calibration)))
    return {"pruned": [pruned] * seeds, "random": [from_scratch(pruned, seed) for seed in range(seeds)]}


def mean(values: Sequence[dict[str, float]]) -> str:
    """Mean and range over seeds."""
    cells = []
    for name in values[0]:
        numbers = [value[name] for value in values]
        cells.append(f"{statistics.mean(numbers):8.1f} ({min(numbers):.1f} to {max(numbers):.1f})")
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mace-mp-small")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--structures", type=int, default=48)
    parser.add_argument("--rows", type=int, default=6, help="of each structure's Hessian, one of them in each step")
    parser.add_argument("--steps", type=int, default=96, help="without the Hessian; with it, as many as cost the same")
    parser.add_argument("--weights", type=float, nargs="*", default=[20.0, 200.0], help="besides 0; none is possible")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parent = ep.load(arguments.model, dtype=torch.float32)
    data = taught(parent, arguments.structures, 0, arguments.rows)
    held_out, tested = taught(parent, 4, 1, 1), taught(parent, 24, 2, 4)
    models = starts(parent, arguments.channels, arguments.seeds)
    epochs = max(1, round(arguments.steps * BATCH / len(data)))
    timed = (0.0, *arguments.weights[:1])
    costs = {w: seconds_per_epoch(models["pruned"][0], data, held_out, w) for w in timed}
    fewer = max(1, round(epochs * costs[0.0] / costs[timed[-1]]))
    print(f"{arguments.model}, {arguments.channels} channels; {len(data)} cells; CPU seconds per epoch {costs}")
    print("errors on cells of another seed: meV/atom, meV/Angstrom, meV/Angstrom^2; mean (range over seeds)")
    results: list[dict[str, Any]] = []
    for kind, begun in models.items():
        print(f"{kind:7} not trained            ", mean([errors(start, tested) for start in begun]), flush=True)
        for weight in (0.0, *arguments.weights):
            found = []
            for seed, start in enumerate(begun):
                trained, seconds, curve = run(start, data, held_out, weight, fewer if weight else epochs, seed)
                found.append(errors(trained, tested))
                one = {"start": kind, "weight": weight, "seed": seed, "seconds": seconds, "curve": curve}
                results.append(one | {"errors": found[-1]})
            spent = statistics.mean(one["seconds"] for one in results[-len(begun) :])
            print(f"{kind:7} {weight:5g} {curve[-1]['step']:5g} steps {spent:4.0f} s", mean(found), flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"seconds_per_epoch": costs, "runs": results}, indent=1))


if __name__ == "__main__":
    main()
