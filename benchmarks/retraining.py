"""Does starting from pruned weights pay? The same small architecture trained the same way from different weights.

Labels are the parent's, of displaced crystals (no pre-training data needed), or those of DFT that came with the frames
(``--labels dft``). Every start sees the same structures in the same order for the same number of steps, at the learning
rate of ``--rates`` that suits its kind best on validation structures (chosen with the first seed). Test structures have
compositions that neither training nor validation has seen: displaced crystals labelled by the parent, MPtrj frames with
DFT labels, and DFT molecular dynamics of Cu, Li and Si.
"""

import argparse
import csv
import json
import re
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from reference_data import mptrj, reference, split_by_composition

import equiprune as ep
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.label import label
from equiprune.pruning.targets import Target
from equiprune.training.from_scratch import from_scratch
from equiprune.training.recipe import PRESETS, Recipe
from equiprune.training.references import RefitReferences
from equiprune.training.trainer import train


@dataclass(frozen=True)
class Case:
    """A model, what it is pruned to, and how the result is trained."""

    model: str
    targets: Sequence[Target]
    preset: str


CASES = {
    "sevennet-half": Case("7net-l3i5", (ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)), "sevennet"),
    "sevennet-official": Case("7net-l3i5", (ep.Lmax(2), ep.EdgeLmax(2)), "sevennet"),
    "mace-half": Case("mace-mp-small", (ep.Channels(64),), "mace-universal"),
}
QUANTITIES = ("energy", "forces", "stress")
Errors = dict[str, tuple[float | None, ...]]
"""Test set to MAE in energy (meV/atom), forces (meV/Angstrom), stress (meV/Angstrom^3)."""


def taught(parent: ep.Potential, structures: Sequence[Atoms], seed: int) -> list[Atoms]:
    """One displaced copy of each structure, labelled by the parent."""
    distorted = list(augmented(structures, Augmentation(copies=1, seed=seed)))[1::2]
    return list(label(parent, distorted))


KINDS = ("taylor", "taylor-displaced", "activation", "magnitude", "random", "scratch")
"""Where weights come from; Taylor scores on crystals as they are, or on the displaced ones that are trained on."""


def scores(parent: ep.Potential, crystals: list[Atoms], displaced: list[Atoms], kind: str, seed: int) -> Any:
    made = {
        "taylor": lambda: ep.calibrate(parent, crystals),
        "taylor-displaced": lambda: ep.calibrate(parent, displaced),
        "activation": lambda: ep.calibrate(parent, crystals, ep.Activation()),
        "magnitude": lambda: ep.data_free_scores(parent, ep.Magnitude()),
        "random": lambda: ep.data_free_scores(parent, ep.Random(seed)),
        "scratch": lambda: ep.data_free_scores(parent, ep.Random(seed)),
    }
    return made[kind]()


def starts(
    parent: ep.Potential, crystals: list[Atoms], displaced: list[Atoms], targets: Sequence[Target], arguments: Any
) -> Iterator[tuple[str, ep.Potential]]:
    """Models of one architecture, and where their weights come from."""
    for kind in arguments.starts:
        for seed in range(arguments.seeds) if kind in ("random", "scratch") else [None]:
            plan = ep.allocate(parent, targets, scores(parent, crystals, displaced, kind, seed or 0))
            pruned = ep.prune(parent, plan)
            name = kind if seed is None else f"{kind} {seed}"
            yield name, from_scratch(pruned, seed) if kind == "scratch" else pruned


def tests(parent: ep.Potential, held_out: list[Atoms]) -> dict[str, list[Atoms]]:
    sets = {"displaced (teacher)": taught(parent, held_out, 1), "MPtrj (DFT)": held_out}
    return sets | {f"{e} (DFT MD)": reference(f"mlearn/{e}_test.extxyz.xz")[::8] for e in ("Cu", "Li", "Si")}


def recipe(preset: str, epochs: int, batch_size: int = 4, **optimisation: float) -> Recipe:
    """The preset's losses and optimizer with a moving average that suits a few hundred steps."""
    chosen = PRESETS[preset]
    return Recipe(chosen.objective, replace(chosen.optimisation, average=0.99, **optimisation), epochs, batch_size)


def run(start: ep.Potential, data: list[Atoms], validation: list[Atoms], chosen: Recipe) -> tuple[ep.Potential, list]:
    """The trained model and its learning curve on the validation structures: rows of step, energy, forces, stress."""
    with tempfile.TemporaryDirectory() as folder:
        trained = train(start, ep.TrainingData(data, validation), chosen, Path(folder) / "run")
        with (Path(folder) / "run" / "curve.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["validation_forces"]]
    return trained, [[int(row["step"]), *(float(row[f"validation_{q}"]) for q in QUANTITIES)] for row in rows]


def best_rate(
    start: ep.Potential, data: list[Atoms], validation: list[Atoms], chosen: Recipe, rates: Sequence[float]
) -> tuple[float, ep.Potential, list]:
    """The run with the smallest validation loss."""
    found = []
    for rate in rates or [chosen.optimisation.learning_rate]:
        tried = replace(chosen, optimisation=replace(chosen.optimisation, learning_rate=rate))
        trained, curve = run(start, data, validation, tried)
        found.append((min(sum(row[1:]) for row in curve), rate, trained, curve))
    _, rate, trained, curve = min(found, key=lambda candidate: candidate[0])
    return rate, trained, curve


def errors(model: ep.Potential, sets: dict[str, list[Atoms]]) -> Errors:
    return {
        name: tuple(accuracy.mae(q) for q in QUANTITIES)
        for name, structures in sets.items()
        for accuracy in ep.evaluate({"": model}, structures)
    }


def table(rows: dict[str, Errors]) -> list[str]:
    """A line per kind of start (seeds as a mean and a range of the force error) and a column per test set."""
    kinds: dict[str, list[Errors]] = {}
    for name, row in rows.items():
        kinds.setdefault(re.sub(r" \d+$", "", name), []).append(row)
    columns = list(next(iter(rows.values())))
    lines = ["| start | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind, members in kinds.items():
        cells = [_cell([member[column] for member in members]) for column in columns]
        several = f" (mean of {len(members)})" if len(members) > 1 else ""
        lines.append(f"| {kind}{several} | " + " | ".join(cells) + " |")
    return lines


def _cell(members: list[tuple[float | None, ...]]) -> str:
    means = [None if None in column else statistics.mean(column) for column in zip(*members, strict=True)]
    text = " / ".join("-" if mean is None else f"{mean:.3g}" for mean in means)
    forces = [member[1] for member in members]
    return text + (f" ({min(forces):.3g} to {max(forces):.3g})" if len(forces) > 1 else "")


def draw(curves: dict[str, list], path: Path) -> None:
    """Validation loss of the forces against steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="validation loss of the forces, eV/Angstrom", yscale="log")
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(name.split()[0] for name in curves))}
    labelled: set[str] = set()
    for name, curve in curves.items():
        kind = name.split()[0]
        axes.plot(
            *zip(*[(row[0], row[2]) for row in curve], strict=True),
            color=colours[kind],
            marker=".",
            label="" if kind in labelled else kind,
        )
        labelled.add(kind)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES, nargs="?", default="sevennet-half")
    parser.add_argument("--labels", choices=("teacher", "dft"), default="teacher")
    parser.add_argument("--structures", type=int, default=316)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="learning rates to choose from")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--starts", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--references", choices=("keep", "refit"), default="keep", help="energies of elements")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--beside", type=Path, help="--json of an earlier run, whose curves the figure shows too")
    arguments = parser.parse_args()
    case = CASES[arguments.case]
    parent = ep.load(case.model, dtype=getattr(torch, arguments.dtype))
    structures, others = split_by_composition(mptrj(16), arguments.structures, 60)
    data = taught(parent, structures, 0) if arguments.labels == "teacher" else structures
    validation = taught(parent, others[:20], 2) if arguments.labels == "teacher" else others[:20]
    sets = tests(parent, others[20:])
    chosen = recipe(case.preset, arguments.epochs, arguments.batch_size)
    steps = arguments.epochs * -(-len(data) // arguments.batch_size)
    print(f"{case.model} to {', '.join(map(str, case.targets))}; {len(data)} crystals ({arguments.labels} labels)")
    print(f"{steps} steps of {arguments.batch_size} structures, preset {case.preset}, {arguments.dtype}")
    print(f"energies of elements: {arguments.references}", flush=True)
    rows, curves, rates = {"parent": errors(parent, sets)}, {}, {}
    for name, start in starts(parent, structures[:120], data[:120], case.targets, arguments):
        kind = name.split()[0]
        start = RefitReferences().apply(start, data).potential if arguments.references == "refit" else start
        candidates = [rates[kind]] if kind in rates else arguments.rates
        rates[kind], trained, curves[name] = best_rate(start, data, validation, chosen, candidates)
        rows[name] = errors(trained, sets)
        print(f"{name} (rate {rates[kind]})", _cell([rows[name]["displaced (teacher)"]]), flush=True)
    print("\nMAE: energy, meV/atom / forces, meV/Angstrom / stress, meV/Angstrom^3 (forces of the seeds: from, to)")
    print("\n".join(table(rows)))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "curves": curves, "rates": rates}, indent=1))
    if arguments.figure:
        before = json.loads(arguments.beside.read_text())["curves"] if arguments.beside else {}
        draw(before | curves, arguments.figure)


if __name__ == "__main__":
    main()
