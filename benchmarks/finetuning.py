"""Does a pruned model take to another level of theory? Fine-tuning on real DFT sets from different starts.

Every start sees the same structures for the same number of steps, with energies of elements refitted to the data, and
with the learning rate out of ``--rates`` that does best on validation structures of its own: a network with random
weights wants a larger one than a trained network. Errors are those of test structures that chose nothing.

  parent      the whole model
  pruned      of lower lmax and fewer channels by Taylor scores on MPtrj crystals
  retrained   the same, retrained on crystals of MPtrj displaced and labelled by the parent
  official    the small model that upstream published, where there is one
  scratch     the pruned architecture with random weights, its energy scale set from the forces of the data
  longer      the same, given ``--longer`` times the steps
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from reference_data import mptrj, reference
from retraining import CASES, recipe, taught

import equiprune as ep
from equiprune.training.from_scratch import from_scratch
from equiprune.training.objective import Objective, Square, Term
from equiprune.training.optimisation import Cosine, Optimisation
from equiprune.training.recipe import Recipe
from equiprune.training.references import RefitReferences, with_scale_of_forces
from equiprune.training.trainer import train

CHILDREN = {"7net-l3i5": CASES["sevennet-half"], "mace-mp-small": CASES["mace-half"]}
OFFICIAL = {"7net-l3i5": "7net-0"}
SETS = {
    **{e: (f"mlearn/{e}_train.extxyz.xz", f"mlearn/{e}_test.extxyz.xz") for e in ("Cu", "Ni", "Li", "Si")},
    "LGPS": ("lgps_sse_pbe/train_50at.extxyz.xz", "lgps_sse_pbe/test_50at.extxyz.xz"),
    "3BPA": ("organic_3bpa/3BPA_train_300K.extxyz.xz", "organic_3bpa/3BPA_train_mixedT.extxyz.xz"),
    "ethanol": ("rmd17/ethanol_train.extxyz.xz", "rmd17/ethanol_test.extxyz.xz"),
}
"""Name to (train, test) files."""
STARTS = ["parent", "pruned", "retrained", "official", "scratch"]
OBJECTIVE = Objective(Term(1.0, Square()), Term(10.0, Square()))
"""Of fine-tuning: mean squares of energies per atom (eV) and of forces (eV/Angstrom), which every set has."""


@dataclass(frozen=True)
class Split:
    """Structures of one set: those to learn from, those that choose, those that measure."""

    train: list[Atoms]
    validation: list[Atoms]
    test: list[Atoms]


def split(name: str, train: int, validation: int, test: int) -> Split:
    """Of one set. Training and validation frames are drawn from the training file and share none."""
    first, second = (reference(file) for file in SETS[name])
    drawn = np.random.default_rng(0).permutation(len(first))[: train + validation]
    step = max(1, len(second) // test)
    return Split([first[i] for i in drawn[:train]], [first[i] for i in drawn[train:]], second[::step][:test])


def retrained(
    parent: ep.Potential, pruned: ep.Potential, crystals: list[Atoms], preset: str, epochs: int
) -> ep.Potential:
    """The pruned model after learning what its parent says of displaced crystals."""
    with tempfile.TemporaryDirectory() as folder:
        return train(pruned, taught(parent, crystals, 0), recipe(preset, epochs), Path(folder) / "run")


def fine_tuned(start: ep.Potential, data: Split, steps: int, size: int, rate: float) -> tuple[ep.Potential, float]:
    """The model after so many steps of ``size`` structures, the best one by validation, and its validation loss."""
    epochs = max(1, round(steps * size / len(data.train)))
    optimisation = Optimisation(rate, Cosine(0.01), warm_up=10, amsgrad=True, average=0.99)
    with tempfile.TemporaryDirectory() as folder:
        chosen = Recipe(OBJECTIVE, optimisation, epochs, size)
        model = train(start, ep.TrainingData(data.train, data.validation), chosen, Path(folder) / "run")
    return model, _loss(model, data.validation)


def _loss(model: ep.Potential, structures: Sequence[Atoms]) -> float:
    [accuracy] = ep.evaluate({"": model}, structures)
    energy, forces = accuracy.rmse("energy") or 0.0, accuracy.rmse("forces") or 0.0
    return energy**2 + 10 * forces**2


def best_of_rates(start: ep.Potential, data: Split, steps: int, size: int, rates: Sequence[float]) -> dict[str, float]:
    """Test errors with the learning rate that validation structures prefer."""
    runs = {rate: fine_tuned(start, data, steps, size, rate) for rate in rates}
    chosen = min(runs, key=lambda rate: runs[rate][1])
    [accuracy] = ep.evaluate({"": runs[chosen][0]}, data.test)
    return {"rate": chosen, "energy": accuracy.mae("energy"), "forces": accuracy.mae("forces")}


def only(start: ep.Potential, elements: set[int]) -> ep.Potential:
    """The same model for a few elements: exact, and faster."""
    kept = ep.Elements(tuple(z for z in start.architecture.elements if z in elements))
    return ep.prune(start, ep.allocate(start, [kept]))


def referenced(start: ep.Potential, data: Split, *, scale: bool) -> ep.Potential:
    """With energies of elements refitted to the training structures, and for random weights the scale as well."""
    start = with_scale_of_forces(start, data.train)[0] if scale else start
    return RefitReferences().apply(start, data.train).potential


def compared(
    starts: Mapping[str, ep.Potential], data: Split, arguments: argparse.Namespace
) -> Iterator[tuple[str, dict]]:
    """Test errors of every start on one set, as they come."""
    elements = {int(z) for atoms in (*data.train, *data.validation, *data.test) for z in atoms.numbers}
    for name, start in starts.items():
        smaller = only(start, elements) if arguments.elements else start
        smaller = referenced(smaller, data, scale=name == "scratch")
        [before] = ep.evaluate({"": smaller}, data.test)
        for label, steps in [(name, 1)] + ([("longer", arguments.longer)] if name == "scratch" else []):
            row = best_of_rates(smaller, data, steps * arguments.steps, arguments.batch_size, arguments.rates)
            yield label, {**row, "before": {"energy": before.mae("energy"), "forces": before.mae("forces")}}


def starts(arguments: argparse.Namespace) -> dict[str, ep.Potential]:
    """Models by name."""
    case = CHILDREN[arguments.model]
    parent = ep.load(arguments.model, dtype=torch.float32)
    crystals = mptrj(16)[: arguments.crystals]
    if arguments.pruned:
        pruned = ep.load(arguments.pruned, dtype=torch.float32)
    else:
        pruned = ep.prune(parent, ep.allocate(parent, case.targets, ep.calibrate(parent, crystals[:120], ep.Taylor())))
    made: dict[str, Callable[[], ep.Potential]] = {
        "parent": lambda: parent,
        "pruned": lambda: pruned,
        "retrained": lambda: retrained(parent, pruned, crystals, case.preset, arguments.retraining),
        "scratch": lambda: from_scratch(pruned),
    }
    if arguments.model in OFFICIAL:
        made["official"] = lambda: ep.load(OFFICIAL[arguments.model])
    return {name: made[name]() for name in arguments.starts if name in made}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="7net-l3i5", choices=CHILDREN)
    parser.add_argument("--pruned", help="a pruned model, instead of one made here")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--starts", nargs="+", default=STARTS, choices=STARTS)
    parser.add_argument("--train", type=int, default=40, help="structures to learn from")
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument("--test", type=int, default=50)
    parser.add_argument("--steps", type=int, default=200, help="in whole epochs")
    parser.add_argument("--batch-size", type=int, default=4, help="structures; large cells need fewer")
    parser.add_argument("--longer", type=int, default=4, help="times the steps for a second run from scratch")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--crystals", type=int, default=316, help="of MPtrj, to calibrate and retrain on")
    parser.add_argument("--retraining", type=int, default=3, help="epochs")
    parser.add_argument("--elements", action="store_true", help="keep only the elements of a set: exact, and faster")
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    models = starts(arguments)
    print(f"{arguments.model}; {arguments.train} structures, rates {arguments.rates}")
    print(f"{arguments.steps} steps of {arguments.batch_size} structures")
    print("energy MAE, meV/atom / forces MAE, meV/Angstrom on the test structures: before -> after (learning rate)")
    tables = {}
    for name in arguments.sets:
        data = split(name, arguments.train, arguments.validation, arguments.test)
        tables[name] = {}
        for start, row in compared(models, data, arguments):
            tables[name][start], before = row, row["before"]
            first = f"{before['energy']:.1f} / {before['forces']:.0f}"
            print(
                f"{name:8} {start:10} {first} -> {row['energy']:.1f} / {row['forces']:.1f} ({row['rate']:g})",
                flush=True,
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"arguments": vars(arguments), "tables": tables}, indent=1))


if __name__ == "__main__":
    main()
