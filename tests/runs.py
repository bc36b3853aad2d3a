"""A small training run that tests share with the processes they start and kill.

``python runs.py FOLDER STEPS`` goes on in FOLDER and ends as by ``kill -9`` after so many steps;
``python runs.py FOLDER STEPS SIGNAL WORKERS`` sends another signal to itself and its workers (SIGKILL to itself only).
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from torch import Tensor

import equiprune as ep
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.hessian_labels import with_products
from equiprune.labelling.label import label
from equiprune.potentials.hessian import Rows
from equiprune.progress import Progress, silent
from equiprune.structures.labels import Labels
from equiprune.training.arguments import Resources, TrainingData, Watchers
from equiprune.training.batches import TrainingBatch, with_labels
from equiprune.training.hessian_batches import ProbeSubset
from equiprune.training.objective import Norm, Objective, Square, Term, mace_universal
from equiprune.training.optimisation import Optimisation, Plateau
from equiprune.training.recipe import Recipe
from equiprune.training.scan import seen
from equiprune.training.trainer import train

torch.set_num_threads(1)

RECIPE = Recipe(
    mace_universal(),
    Optimisation(
        learning_rate=3e-2,
        schedule=Plateau(0.5, 0),
        warm_up=5,
        amsgrad=True,
        weight_decay=1e-3,
        rates={"readout*": 0.1},
    ),
    epochs=3,
    batch_size=2,
    save_every=3,
)
"""Everything that a state has to remember takes part; 4 steps an epoch, saved after 3, 4, 6, 8, 9, 12."""

HESSIAN = replace(RECIPE.objective, hessian=Term(0.5, Norm()))
"""The same objective, and one Hessian row per structure and step."""

WEIGHTS = {"energy": 1.0, "forces": 10.0, "stress": 1000.0}
SQUARES = Objective(**{name: Term(weight, Square()) for name, weight in WEIGHTS.items()})
"""An objective that can be worked out by hand."""


@cache
def parent() -> ep.Potential:
    """The toy model in float64."""
    return ep.load("toy", dtype=torch.float64)


@cache
def student() -> ep.Potential:
    """Four random channels of each hidden space of the parent."""
    return ep.prune(parent(), ep.allocate(parent(), [ep.Channels(4)], ep.data_free_scores(parent(), ep.Random(1))))


@cache
def labelled(seed: int = 0) -> tuple[Atoms, ...]:
    """Eight structures with the parent's labels: the last but one has no energy, the last is a molecule in vacuum."""
    bare = list(ep.probe_structures([1, 6, 8, 14], seed).values())
    structures = list(label(parent(), augmented(bare, Augmentation(copies=1, strain=0.05, seed=seed))))
    del structures[6].calc.results["energy"]
    return (*structures[:7], vacuum(structures[7]))


@cache
def probed(seed: int = 0) -> tuple[Atoms, ...]:
    """The same eight; all but the second with four rows of the parent's Hessian."""
    every = list(with_products(parent(), labelled(seed), Rows(4)))
    return (every[0], labelled(seed)[1], *every[2:])


def mixed() -> tuple[Atoms, ...]:
    """Four of them, of 8, 2, 3 and 3 atoms, one without energy and one without stress."""
    return tuple(labelled()[i] for i in (0, 3, 6, 7))


def bare(count: int = 4) -> list[Atoms]:
    return [a for seed in range(count // 4 + 1) for a in ep.probe_structures([1, 6, 8, 14], seed).values()][:count]


def write(path: Path, structures: list[Atoms]) -> Path:
    ase.io.write(path, structures, format="extxyz")
    return path


def batch(potential: ep.Potential, structures: Sequence[Atoms], turns: Sequence[ProbeSubset] = ()) -> TrainingBatch:
    """What a loader should give."""
    return with_labels(potential.graph(structures), structures, turns)


def everything(structures: Sequence[Atoms]) -> Iterator[np.ndarray]:
    """All that training sees of structures."""
    return (array for atoms in structures for array in seen(atoms, Labels.of(atoms)))


def vacuum(atoms: Atoms) -> Atoms:
    """The same atoms without a cell, labelled by the parent."""
    [molecule] = label(parent(), [Atoms(numbers=atoms.numbers, positions=atoms.positions)])
    return molecule


def plain(**changes: Any) -> Optimisation:
    """Adam and nothing else."""
    return Optimisation(**({"clip": None, "average": None} | changes))


def run(folder: Path, recipe: Recipe = RECIPE, progress: Progress = silent, **changes: Any) -> ep.Potential:
    """Train the student in a folder."""
    given = {"structures": labelled(), "validation": labelled(1)[:4], "progress": progress} | changes
    start = given.pop("potential", student())
    data, resources, watchers = (
        kind(**{field.name: given.pop(field.name) for field in fields(kind) if field.name in given})
        for kind in (TrainingData, Resources, Watchers)
    )
    assert not given, f"nothing takes {given}"
    return train(start, data, recipe, folder, resources=resources, watchers=watchers)


def signalled(after: int, number: int, *, group: bool = False) -> Progress:
    """A progress display that sends this process, or its whole group, a signal once so many steps are done."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if done == after:
            os.killpg(0, number) if group else os.kill(os.getpid(), number)

    return step


def mean_squares(potential: ep.Potential, structures: Sequence[Atoms]) -> Mapping[str, float]:
    """Mean squared differences from the labels there are; energy per atom. Nothing here is equiprune's objective."""
    errors: dict[str, list[float]] = {"energy": [], "forces": [], "stress": []}
    for atoms, prediction in zip(structures, potential.predict(structures), strict=True):
        results = atoms.calc.results
        if "energy" in results:
            errors["energy"].append((prediction.energy.item() - results["energy"]) / len(atoms))
        errors["forces"] += (prediction.forces.numpy() - results["forces"]).flatten().tolist()
        if "stress" in results:
            xx, yy, zz, yz, xz, xy = results["stress"]
            errors["stress"] += (
                (prediction.stress.numpy() - [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]).flatten().tolist()
            )
    return {name: float(np.mean(np.square(values))) for name, values in errors.items() if values}


def weights_of(potential: ep.Potential) -> dict[str, Tensor]:
    return dict(potential.checkpoint.weights)


def assert_same_weights(a: ep.Potential, b: ep.Potential) -> None:
    assert weights_of(a).keys() == weights_of(b).keys()
    different = [name for name, weight in weights_of(a).items() if not torch.equal(weight, weights_of(b)[name])]
    assert not different, different


def moved(potential: ep.Potential, name: str, index: int, by: float) -> ep.Potential:
    """The same model with one number changed."""
    weight = weights_of(potential)[name].clone()
    weight.view(-1)[index] += by
    checkpoint = replace(potential.checkpoint, weights=weights_of(potential) | {name: weight})
    return ep.Potential.create(potential.adapter, checkpoint, potential.dtype)


def rows(folder: Path) -> list[dict[str, str]]:
    """The learning curve without its clock; its one header is checked."""
    header, *lines = (folder / "curve.csv").read_text().splitlines()
    names = header.split(",")
    assert all(len(line.split(",")) == len(names) and line != header for line in lines)
    return [dict(zip(names, line.split(","), strict=True)) | {"seconds": ""} for line in lines]


if __name__ == "__main__":
    chosen, steps, *more = sys.argv[1:]
    number, workers = map(int, more) if more else (signal.SIGKILL, 0)
    run(Path(chosen), progress=signalled(int(steps), number, group=number != signal.SIGKILL), workers=workers)
