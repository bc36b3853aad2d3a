"""Prune before fine-tuning, as the paper does, or after? ``python benchmarks/orders.py``, at equal CPU time.

A model is wanted at half width, for one's own system and its level of theory. Ways to it from the same parent, which
all take the same time on one thread, labelling included:

  fine-tune         prune; fine-tune on the DFT frames
  retrain first     prune; retrain on displaced MPtrj crystals that the parent labels; fine-tune (the paper's order)
  prune after       fine-tune the parent; prune it by scores on the DFT frames; fine-tune the child
  distil after      fine-tune the parent; prune it; distil the child on what the fine-tuned parent says of the frames
                    and of displaced copies of them
  both              the same with the DFT frames and their own labels among them
  repair, both      the same after a repair on some frames and copies

A way that leaves no time for its child has no errors.
Energies of elements are refitted to the frames before anything is fine-tuned. Errors are those of test frames that
chose nothing; the parent, fine-tuned for its share of the time, is what can be reached.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from ase import Atoms
from finetuning import CHILDREN, OBJECTIVE, SETS, Split, only, referenced, split
from reference_data import mptrj
from retraining import recipe as preset_recipe
from timed import Teaching

import equiprune as ep
from equiprune.files.atomic import write_text
from equiprune.pruning.parent_view import ParentView
from equiprune.pruning.repair import WorseError
from equiprune.structures.sampling import spread
from equiprune.training.optimisation import Cosine, Optimisation
from equiprune.training.recipe import Recipe

SHARE = 0.4
"""Share of the time for the parent, or for retraining; the child's fine-tuning or distillation has the rest."""
SCORED = 8
"""Structures that decide which channels stay."""
REPAIRED = 30
"""Structures of a repair, displaced once, for maps alone: more leaves none of the time where they have 50 atoms."""
REACHED = "the parent, fine-tuned"
WAYS = (REACHED, "fine-tune", "retrain first", "prune after", "distil after", "both", "repair, both")


class NoTimeLeftError(Exception):
    """A way of which no time was left for its child."""


@dataclass(frozen=True)
class Task:
    """A set, and what all ways share."""

    data: Split
    parent: ep.Potential
    case: str
    seconds: float
    size: int
    rate: float
    seed: int
    measuring: list[float] = field(default_factory=list)

    def fine_tuned(self, start: ep.Potential, structures: Sequence[Atoms], seconds: float) -> ep.Potential:
        """After so many seconds, the best by validation frames."""
        optimisation = Optimisation(self.rate, Cosine(0.01), warm_up=10, amsgrad=True, average=0.99)
        return self._trained(start, structures, Recipe(OBJECTIVE, optimisation, 8, self.size, self.seed), seconds)

    def retrained(self, start: ep.Potential, structures: Sequence[Atoms], seconds: float) -> ep.Potential:
        """After so many seconds on labels of the parent, by the preset of its family."""
        return self._trained(start, structures, preset_recipe(CHILDREN[self.case].preset, 1), seconds, validated=False)

    def _trained(
        self,
        start: ep.Potential,
        structures: Sequence[Atoms],
        recipe: Recipe,
        seconds: float,
        *,
        validated: bool = True,
    ) -> ep.Potential:
        teaching = Teaching(recipe, structures, self.data.validation if validated else ())
        begun = time.process_time()
        steps = teaching.steps(start, seconds)
        self.measuring.append(time.process_time() - begun)
        with tempfile.TemporaryDirectory() as folder:
            return teaching.run(start, steps, Path(folder) / "run")

    def spent(self, begun: float) -> float:
        """CPU time since then, without what it took to measure how long steps are."""
        return time.process_time() - begun - sum(self.measuring)

    def pruned(self, model: ep.Potential, structures: Sequence[Atoms]) -> ep.Potential:
        """At half width, by scores on structures."""
        return ep.prune(model, ep.allocate(model, CHILDREN[self.case].targets, ep.calibrate(model, structures)))


def copies(structures: Sequence[Atoms], seed: int) -> list[Atoms]:
    """Two displaced copies of each frame, and the frame."""
    return list(ep.augmented(structures, ep.Augmentation(copies=2, rattle=0.05, strain=0.01, seed=seed)))


def repaired(model: ep.Potential, teacher: ep.Potential, structures: Sequence[Atoms]) -> ep.Potential:
    """Repaired on some of the structures where that helps, as `equiprune compress` does with its candidates."""
    view = ParentView.of(teacher, spread(structures, REPAIRED), displacements=1, gains=False)
    try:
        return ep.repair(model, view).potential
    except WorseError:
        return model


def child(way: str, task: Task, crystals: Sequence[Atoms]) -> ep.Potential:
    """The child of one way."""
    begun, frames = time.process_time(), task.data.train

    def left() -> float:
        rest = task.seconds - task.spent(begun)
        if rest <= 0:
            raise NoTimeLeftError
        return rest

    if way in ("fine-tune", "retrain first"):
        model = task.pruned(task.parent, crystals[:SCORED])
        if way == "retrain first":
            labelled = list(ep.label(task.parent, copies(crystals, task.seed)[1::3]))
            model = task.retrained(model, labelled, SHARE * task.seconds)
        return task.fine_tuned(referenced(model, task.data, scale=False), frames, left())
    teacher = task.fine_tuned(referenced(task.parent, task.data, scale=False), frames, SHARE * task.seconds)
    model = task.pruned(teacher, frames[:SCORED])
    if way == "prune after":
        return task.fine_tuned(model, frames, left())
    shown = copies(frames, task.seed)
    if way == "repair, both":
        model = repaired(model, teacher, shown)
    soft = list(ep.label(teacher, shown))
    hard = [] if way == "distil after" else list(frames)
    return task.fine_tuned(model, [*soft, *hard], left())


def row(way: str, task: Task, crystals: Sequence[Atoms]) -> dict[str, float | None]:
    """CPU time and test errors of one way; no errors where no time was left."""
    begun = time.process_time()
    if way == REACHED:
        start = referenced(task.parent, task.data, scale=False)
        model = task.fine_tuned(start, task.data.train, SHARE * task.seconds)
    else:
        try:
            model = child(way, task, crystals)
        except NoTimeLeftError:
            return {"cpu": task.spent(begun), "energy": None, "forces": None}
    spent = task.spent(begun)
    [accuracy] = ep.evaluate({"": model}, task.data.test)
    return {"cpu": spent} | {quantity: accuracy.mae(quantity) for quantity in ("energy", "forces")}


def main() -> None:
    """Print a row for every set, way and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mace-mp-small", choices=CHILDREN)
    parser.add_argument("--sets", nargs="+", default=["ethanol", "3BPA", "LGPS", "Si"], choices=SETS)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--test", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True, help="results; those made with the same are not made again")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    crystals = mptrj(16)[:160]
    asked = {name: getattr(chosen, name) for name in ("model", "seconds", "rate", "train", "test")}
    found = json.loads(chosen.json.read_text()) if chosen.json.exists() else []
    print("| set | way | seed | CPU s | energy, meV/atom | forces, meV/Angstrom |\n|---|---|---|---|---|---|")
    for name in chosen.sets:
        data = split(name, chosen.train, 10, chosen.test)
        elements = {int(z) for atoms in (*data.train, *data.validation, *data.test) for z in atoms.numbers}
        near = [atoms for atoms in crystals if elements & set(atoms.numbers.tolist())] or crystals
        elements |= {int(z) for atoms in near for z in atoms.numbers}
        parent = only(ep.load(chosen.model, dtype=torch.float32), elements)
        size = 4 if name in ("3BPA", "ethanol") else 1
        for seed in range(chosen.seeds):
            task = Task(data, parent, chosen.model, chosen.seconds, size, chosen.rate, seed)
            for way in WAYS:
                named = asked | {"set": name, "way": way, "seed": seed}
                done = [entry for entry in found if named.items() <= entry.items()]
                if not done:
                    done = [named | row(way, replace(task, measuring=[]), near)]
                    found += done
                    write_text(chosen.json, json.dumps(found, indent=1))
                values = [done[0][key] for key in ("cpu", "energy", "forces")]
                cells = " | ".join("no time left" if value is None else f"{value:.1f}" for value in values)
                print(f"| {name} | {way} | {seed} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
