"""Structures that the student visits, beside others that as many labels can be spent on.

``python benchmarks/on_policy.py labelled.extxyz --output FOLDER``. A child of l3i5 at half width is repaired, and
trained on crystals that l3i5 labelled (``benchmarks/crystals.py``, ``equiprune label``). Then it is trained for as many
steps again, by the same recipe at half the rate, half of the structures being those crystals and the other half

  crystals      more of the same
  displaced     displaced and strained copies of frames of MPtrj, as many of each as the walks have frames
  teacher       what the parent visits in molecular dynamics and relaxations from the same frames
  student       what the child itself visits there

and all but the first are labelled by the parent. Tests start from MPtrj frames of other compositions: these as they
are, displaced, in dynamics of the parent, in dynamics of the model that is tested, and DFT dynamics of Cu, Ni, Li and
Si; errors are differences from the parent. Results are kept one by one: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from kept import kept
from on_one_core import shown_frames
from reference_data import reference
from repair import CUTS, DYNAMICS, Errors, displaced, errors
from timed import Teaching

import equiprune as ep
from equiprune.files.atomic import write_text
from equiprune.structures.reading import fingerprint
from equiprune.structures.sampling import spread
from equiprune.training.recipe import Recipe

WALKS = (
    ep.Dynamics(frames=5, interval=8, temperature=1000.0, timestep=2.0),
    ep.Relaxation(frames=2, steps=16),
)
FRAMES = sum(walk.frames for walk in WALKS)
START = "the start"
DATA = ("crystals", "displaced", "teacher", "student")
LARGEST, STARTS, TESTS = 12, 40, 8
"""Atoms of a frame of MPtrj, the number of those that are walked from, and of those that tests start from."""
LARGEST_FORCE = 20.0
"""eV/Angstrom: structures with more are not learned from."""


@dataclass(frozen=True)
class Task:
    """The part that all share.

    Attributes:
        parent: labels.
        child: repaired, not trained.
        crystals: labelled.
        starts: frames of MPtrj that new structures come from.
        tests: structures by name.
        aside: frames from which models walk in the tests.
        steps: of each of both trainings.
    """

    parent: ep.Potential
    child: ep.Potential
    crystals: Sequence[Atoms]
    starts: Sequence[Atoms]
    tests: dict[str, list[Atoms]]
    aside: Sequence[Atoms]
    steps: int

    def trained(self, start: ep.Potential, data: Sequence[Atoms], rate: float, seed: int) -> ep.Potential:
        """After so many steps by preset `distil`."""
        known = ep.PRESETS["distil"]
        recipe = Recipe(known.objective, replace(known.optimisation, learning_rate=rate), 1, 4, seed)
        with tempfile.TemporaryDirectory() as folder:
            return Teaching(recipe, data).run(start, self.steps, Path(folder) / "run")

    def labelled(self, structures: Sequence[Atoms]) -> list[Atoms]:
        """Structures with the parent's labels, those with large forces left out."""
        made = ep.label(self.parent, structures)
        return [atoms for atoms in made if np.abs(atoms.get_forces()).max() < LARGEST_FORCE]

    def new(self, kind: str, student: ep.Potential, seed: int) -> list[Atoms]:
        """Labelled structures of one kind."""
        if kind == "displaced":
            how = ep.Augmentation(copies=FRAMES, rattle=0.1, strain=0.03, seed=seed)
            return self.labelled(list(ep.augmented(self.starts, how)))
        driver = self.parent if kind == "teacher" else student
        return self.labelled(walked(driver, self.starts, seed)[0])


def walked(driver: ep.Potential, starts: Sequence[Atoms], seed: int) -> tuple[list[Atoms], int]:
    """Structures that a model visits, the starts themselves left out, and the number of walks that ended early."""
    walks = [replace(WALKS[0], seed=seed), WALKS[1]]
    items = list(ep.visited(starts, ep.Driver(driver.calculator(), student=True), walks))
    frames = [item.atoms for item in items if isinstance(item, ep.Visit) and item.walk]
    return frames, sum(isinstance(item, ep.EarlyEnd) for item in items)


def judged(of: Task, model: ep.Potential) -> dict:
    """`Errors` by test, and how many of the model's own walks ended early."""
    own, ended = walked(model, of.aside, 1000)
    sets = of.tests | {"its own dynamics": own}
    found: Errors = errors(model, {name: of.parent.predict(each) for name, each in sets.items()}, sets)
    return {"errors": found, "ended": ended}


def task(labelled: Path, structures: int, steps: int) -> Task:
    """The parent, its child at half width, structures, tests."""
    parent = ep.load("7net-l3i5")
    every = ep.open_structures(labelled)
    sane = [every[i] for i in range(structures) if np.abs(every[i].get_forces()).max() < LARGEST_FORCE]
    child = ep.prune(parent, ep.allocate(parent, CUTS["7net-l3i5"]["half width"], ep.calibrate(parent, sane[:40])))
    aside = [a for a in reference("mptrj_sample/mptrj-random-1k.extxyz.xz")[::5] if 1 < len(a) <= LARGEST]
    aside = spread(aside, TESTS)
    dft = {name: spread(reference(path), 8) for name, path in DYNAMICS.items() if name != "Li-Ge-P-S"}
    tests = {
        "as they are": aside,
        "displaced": displaced(aside),
        "dynamics of the parent": walked(parent, aside, 1000)[0],
    }
    starts = spread([a for a in shown_frames(LARGEST) if len(a) > 1], STARTS)
    child = ep.repair(child, parent, sane[:: max(1, len(sane) // 300)]).potential
    return Task(parent, child, sane, starts, tests | dft, aside, steps)


def results(of: Task, seed: int, folder: Path) -> Iterator[tuple[str, dict]]:
    """Judgements of the start and of the model of each kind of data; kept in the folder."""
    first = folder / f"first-{seed}"
    if not first.exists():
        ep.save(of.trained(of.child, of.crystals, 4e-3, seed), first)
    start = ep.load(first)
    models = {START: lambda: start} | {kind: partial(_again, of, start, kind, seed) for kind in DATA}
    for name, made in models.items():
        path = folder / f"{name.replace(' ', '-')}-{seed}.json"
        if not path.exists():
            write_text(path, json.dumps(judged(of, made())))
            print(f"{time.strftime('%H:%M:%S')} {name}, seed {seed}", flush=True)
        yield name, json.loads(path.read_text())


def _again(of: Task, start: ep.Potential, kind: str, seed: int) -> ep.Potential:
    """The model trained on crystals and as many new structures."""
    new = of.new(kind, start, seed) if kind != "crystals" else []
    number = len(of.starts) * FRAMES
    chosen = np.random.default_rng(seed).permutation(len(of.crystals))[: 2 * number - len(new)]
    return of.trained(start, [*new, *(of.crystals[i] for i in chosen)], 2e-3, seed + 100)


def table(found: Sequence[tuple[str, dict]]) -> str:
    """A row for every kind of data: means over seeds, and the range of the forces."""
    tests = list(found[0][1]["errors"])
    lines = [f"| new structures | {' | '.join(tests)} | walks that ended early |", "|---" * (2 + len(tests)) + "|"]
    for name in (START, *DATA):
        mine = [each for kind, each in found if kind == name]
        cells = []
        for test in tests:
            energies, forces = zip(*(each["errors"][test] for each in mine), strict=True)
            span = f" ({min(forces):.0f}..{max(forces):.0f})" if len(forces) > 1 else ""
            cells.append(f"{statistics.mean(energies):.0f} / {statistics.mean(forces):.0f}{span}")
        lines.append(f"| {name} | {' | '.join(cells)} | {statistics.mean(each['ended'] for each in mine):.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Train what has no result yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--structures", type=int, default=1460)
    parser.add_argument("--steps", type=int, default=300, help="of the first training, and of the second")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    asked = {"labelled_sha256": fingerprint(chosen.labelled), "structures": chosen.structures, "steps": chosen.steps}
    kept(chosen.output, asked)
    chosen.output.mkdir(exist_ok=True)
    of = task(chosen.labelled, chosen.structures, chosen.steps)
    found = [each for seed in range(chosen.seeds) for each in results(of, seed, chosen.output)]
    print("Energy, meV/atom / forces, meV/Angstrom (range over seeds), from the parent:\n")
    print(table(found))


if __name__ == "__main__":
    main()
