"""Recipes of distillation for the same time: ``python benchmarks/recipes.py labelled.extxyz --output recipes``.

l3i5 at half width learns from crystals that l3i5 labelled (``benchmarks/crystals.py``, ``equiprune label``), by one
recipe after another, each for the same CPU time on one thread and from the same weights. How many steps that is is
measured first, so a learning rate falls to its end with every recipe; ``--steps 400`` takes so many steps instead, for
recipes whose steps cost the same. Tests are MPtrj frames of other compositions, at rest and displaced, labelled by
l3i5. Results are kept one by one in the output folder: the same command goes on, and prints all there are, mean and
range over seeds; a folder of other structures or lengths is refused.
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from kept import kept
from optimizers import Maker, muon, soap, trained_by
from reference_data import reference
from timed import Teaching

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.files.atomic import write_text
from equiprune.structures.reading import fingerprint
from equiprune.training.objective import (
    Absolute,
    FeatureTerm,
    Huber,
    Objective,
    Square,
    Term,
    mace_universal,
    sevennet_huber,
)
from equiprune.training.optimisation import Constant, Cosine, Linear, Optimisation
from equiprune.training.recipe import Recipe

PLAIN = sevennet_huber()
ADAM = Optimisation(2e-3, Linear(0.01), clip=None, average=None)
_NONE = Term(0.0, Square())
BLOCKS = Objective(_NONE, _NONE, features=FeatureTerm(1.0, block_by_block=True))
TOGETHER = Objective(_NONE, _NONE, features=FeatureTerm(1.0), atom_energies=Term(0.5, Huber()))
_POINTS = 5
"""Validations of a run."""


@dataclass(frozen=True)
class Candidate:
    """A recipe; what comes first takes a share of the time. ``optimizer`` in the place of Adam, ``repaired`` before."""

    objective: Objective = PLAIN
    optimisation: Optimisation = ADAM
    batch_size: int = 4
    optimizer: Maker | None = None
    repaired: bool = False
    first: Objective | None = None
    share: float = 0.3


def features(weight: float) -> Candidate:
    """The plain objective and features of the parent."""
    return Candidate(replace(PLAIN, features=FeatureTerm(weight)))


def adam(**changes: object) -> Candidate:
    """Another optimisation."""
    return Candidate(optimisation=replace(ADAM, **changes))  # type: ignore[arg-type]


def repaired(learning_rate: float, objective: Objective = PLAIN, **changes: object) -> Candidate:
    """A start that was repaired in closed form."""
    return replace(adam(learning_rate=learning_rate, **changes), objective=objective, repaired=True)


def by(optimizer: Maker, learning_rate: float) -> Candidate:
    """Another optimizer."""
    return replace(adam(learning_rate=learning_rate), optimizer=optimizer)


ATOMS = replace(PLAIN, atom_energies=Term(0.5, Huber()))
_L1 = Objective(Term(1.0, Absolute()), Term(1.0, Absolute()), Term(0.01, Absolute(), unit=PLAIN.stress.unit, six=True))
CANDIDATES: Mapping[str, Candidate] = {
    "energy, forces, stress (rate 2e-3, linear, 4 structures)": Candidate(),
    "rate 1e-3": adam(learning_rate=1e-3),
    "rate 4e-3": adam(learning_rate=4e-3),
    "cosine": adam(schedule=Cosine(0.01)),
    "constant, average 0.99": adam(schedule=Constant(), average=0.99),
    "average 0.99": adam(average=0.99),
    "2 structures": Candidate(batch_size=2),
    "8 structures": Candidate(batch_size=8),
    "atom energies 0.5": Candidate(ATOMS),
    "features 0.1": features(0.1),
    "first block by block, 30 %": Candidate(first=BLOCKS),
    "repaired, rate 1e-3": repaired(1e-3),
    "repaired, rate 2e-3": repaired(2e-3),
    "repaired, rate 4e-3": repaired(4e-3),
    "repaired, rate 8e-3": repaired(8e-3),
    "repaired, atom energies 0.5": repaired(4e-3, ATOMS),
    "repaired, average 0.99": repaired(4e-3, average=0.99),
    "repaired, atom energies 0.5, average 0.99": repaired(4e-3, ATOMS, average=0.99),
    "repaired, rate 8e-3, atom energies 0.5": repaired(8e-3, ATOMS),
    "Muon, rate 2e-3": by(muon, 2e-3),
    "Muon, rate 6e-3": by(muon, 6e-3),
    "SOAP, rate 2e-3": by(soap, 2e-3),
    "SOAP, rate 6e-3": by(soap, 6e-3),
    "rate 8e-3": adam(learning_rate=8e-3),
    "forces weigh 10 (MACE's universal)": Candidate(mace_universal()),
    "absolute errors": Candidate(_L1),
    "AMSGrad": adam(amsgrad=True),
    "weight decay 1e-2": adam(weight_decay=1e-2),
    "clipped at 1": adam(clip=1.0),
    "features 1": features(1.0),
    "first features and atom energies, 30 %": Candidate(first=TOGETHER),
}


@dataclass(frozen=True)
class Length:
    """The length of a run: CPU time, or a number of steps."""

    seconds: float
    steps: int | None = None

    def of(self, part: Teaching, model: ep.Potential, share: float) -> int:
        """Steps of a part that has a share of the run."""
        return round(self.steps * share) if self.steps else part.steps(model, self.seconds * share)


@dataclass(frozen=True)
class Task:
    """The part that all recipes share; the child as it was cut, and repaired."""

    parent: ep.Potential
    child: ep.Potential
    repaired: ep.Potential
    data: Sequence[Atoms]
    validation: Sequence[Atoms]
    tests: Mapping[str, Sequence[Atoms]] = field(default_factory=dict)

    def errors(self, model: ep.Potential) -> dict[str, dict[str, float]]:
        """Mean absolute errors by test, in meV/atom, meV/Angstrom and meV/Angstrom^3."""
        found = {name: ep.evaluate({"": model}, structures)[0] for name, structures in self.tests.items()}
        return {name: {q: one.mae(q) for q in ("energy", "forces", "stress")} for name, one in found.items()}


def task(labelled: Path, structures: int) -> Task:
    """The parent, its child at half width, what it learns from, and the tests."""
    parent = ep.load("7net-l3i5")
    every = ep.open_structures(labelled)
    data = [every[i] for i in range(structures + 20)]
    sane = [atoms for atoms in data if np.abs(atoms.get_forces()).max() < 30]
    targets = [ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)]
    child = ep.prune(parent, ep.allocate(parent, targets, ep.calibrate(parent, sane[:40])))
    frames = [a for a in reference("mptrj_sample/mptrj-random-1k.extxyz.xz")[::5] if len(a) <= 40]
    aside = [frames[i] for i in np.random.default_rng(0).permutation(len(frames))[:30]]
    displaced = [atoms.copy() for atoms in aside]
    for seed, atoms in enumerate(displaced):
        atoms.rattle(0.1, seed=seed)
    tests = {"MPtrj": list(ep.label(parent, aside)), "displaced": list(ep.label(parent, displaced))}
    repaired = ep.repair(child, parent, sane[20:]).potential
    return Task(parent, child, repaired, sane[20:], sane[:20], tests)


def teaching(of: Task, how: Candidate, objective: Objective, seed: int) -> Teaching:
    """One part of a recipe."""
    recipe = Recipe(objective, how.optimisation, _POINTS, how.batch_size, seed)
    parent = of.parent if objective.features.weight else None
    return Teaching(recipe, of.data, of.validation if objective.labelled() else (), parent)


def outcome(of: Task, how: Candidate, length: Length, seed: int) -> dict[str, object]:
    """The result of one run, or that it diverged."""
    try:
        return result(of, how, length, seed)
    except (StructureError, torch.linalg.LinAlgError) as error:  # the latter of SOAP's own matrices
        return {"diverged": str(error)}


def result(of: Task, how: Candidate, length: Length, seed: int) -> dict[str, object]:
    """Errors, steps, CPU time and learning curve of one run."""
    shares = [(how.first, how.share), (how.objective, 1 - how.share)] if how.first else [(how.objective, 1.0)]
    parts = [teaching(of, how, objective, seed) for objective, _ in shares]
    model = of.repaired if how.repaired else of.child
    with tempfile.TemporaryDirectory() as folder, trained_by(how.optimizer):
        steps = [length.of(part, model, share) for part, (_, share) in zip(parts, shares, strict=True)]
        begun, curves = time.process_time(), []
        for number, (part, count) in enumerate(zip(parts, steps, strict=True)):
            model = part.run(model, count, Path(folder) / f"{number}")
            with (Path(folder) / f"{number}" / "curve.csv").open() as file:
                rows = [row for row in csv.DictReader(file) if row.get("validation_forces")]
            curves += [[float(row["seconds"]), float(row["validation_forces"])] for row in rows]
        return {"steps": steps, "cpu": time.process_time() - begun, "curve": curves, "errors": of.errors(model)}


def said(values: Sequence[float]) -> str:
    """Mean and range over seeds."""
    return f"{statistics.mean(values):.1f}" + (f" ({min(values):.1f}..{max(values):.1f})" if len(values) > 1 else "")


Starts = Mapping[str, Mapping[str, Mapping[str, float]]]


def table(output: Path, starts: Starts, seeds: int) -> str:
    """A row for every start, and for every recipe that has a result."""
    start = next(iter(starts.values()))
    tests = list(start)
    rows = [["recipe", "runs", "steps", *(f"{test}: energy | forces | stress" for test in tests)]]
    for name, errors in starts.items():
        rows += [[name, "", "", *(" | ".join(f"{e:.1f}" for e in errors[test].values()) for test in tests)]]
    for name in CANDIDATES:
        every = runs(output, name, seeds)
        found = finished(every)
        if every and not found:
            rows.append([name, f"{len(every)}, diverged", "", *("" for _ in range(3 * len(tests)))])
        elif found:
            steps = "+".join(str(round(statistics.mean(s))) for s in zip(*(f["steps"] for f in found), strict=True))
            cells = [" | ".join(said([f["errors"][t][q] for f in found]) for q in start[t]) for t in tests]
            rows.append([name, f"{len(found)} of {len(every)}", steps, *cells])
    rule = "|---|---|---|" + "---|" * (3 * len(tests))
    return "\n".join(["| " + " | ".join(rows[0]) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows[1:])])


def runs(output: Path, name: str, seeds: int) -> list[dict]:
    """Results of a recipe, one for each seed that there is."""
    paths = [output / f"{_file(name)}-{seed}.json" for seed in range(seeds)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def finished(every: Sequence[dict]) -> list[dict]:
    """Results of runs that did not diverge."""
    return [found for found in every if "diverged" not in found]


def draw(output: Path, seeds: int, seconds: float, path: Path) -> None:
    """Validation losses of forces against time, the mean over seeds; validations are at fifths of the time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="CPU time, s", ylabel="validation loss of the forces, its own unit", yscale="log")
    dashes = ("-", "--", ":", "-.")
    every = {name: finished(runs(output, name, seeds)) for name in CANDIDATES}
    for number, (name, found) in enumerate((name, found) for name, found in every.items() if found):
        curves = np.array([[loss for _, loss in run["curve"]][-_POINTS:] for run in found])
        times = seconds * np.arange(1, _POINTS + 1)[-curves.shape[1] :] / _POINTS
        bold = 2.2 if name.startswith("repaired") else 1.0
        axes.plot(times, curves.mean(0), dashes[number // 10], color=f"C{number % 10}", lw=bold, label=name)
    figure.legend(loc="outside right upper", fontsize=7)
    figure.savefig(path, dpi=120)


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def main() -> None:
    """Run what has no result yet, and print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--structures", type=int, default=1500)
    parser.add_argument("--seconds", type=float, default=120, help="CPU time of each run")
    parser.add_argument("--steps", type=int, help="of each run, in place of a CPU time")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", type=Path, help="a picture of the learning curves")
    parser.add_argument("--only", nargs="+", default=[], help="recipes whose names begin so")
    chosen = parser.parse_args()
    if chosen.figure and chosen.steps:
        parser.error("--figure draws runs of the same time: leave out --steps.")
    torch.set_num_threads(1)
    asked = {
        "labelled_sha256": fingerprint(chosen.labelled),
        "structures": chosen.structures,
        "seconds": chosen.seconds,
        "steps": chosen.steps,
    }
    kept(chosen.output, asked)
    chosen.output.mkdir(exist_ok=True)
    of, length = task(chosen.labelled, chosen.structures), Length(chosen.seconds, chosen.steps)
    starts = {"not trained": of.errors(of.child), "repaired, not trained": of.errors(of.repaired)}
    for seed in range(chosen.seeds):
        for name, how in CANDIDATES.items():
            path = chosen.output / f"{_file(name)}-{seed}.json"
            wanted = not chosen.only or any(name.startswith(word) for word in chosen.only)
            if wanted and not path.exists():
                write_text(path, json.dumps(outcome(of, how, length, seed)))
                print(f"{time.strftime('%H:%M:%S')} {name}, seed {seed}", flush=True)
    print(table(chosen.output, starts, chosen.seeds))
    if chosen.figure:
        draw(chosen.output, chosen.seeds, chosen.seconds, chosen.figure)


if __name__ == "__main__":
    main()
