"""The demo: the main job, on a real model that comes with ``pip install`` and real crystals that come with equiprune.

Calibrate SevenNet-l3i5, prune it to half width, certify that in a fresh process, retrain it on its parent's labels for
a minute, evaluate and time all beside their parent, a shipped model and the official SevenNet-0, and save checkpoints
that stock SevenNet tools open.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from equiprune.cli.display import progress, show, show_table
from equiprune.errors import EquipruneError
from equiprune.evaluation.accuracy import Accuracy, evaluate
from equiprune.evaluation.benchmark import Timing, benchmark
from equiprune.evaluation.engines import ENGINES, OWN, UpstreamEngine
from equiprune.files.atomic import check_writable, write_json, write_text
from equiprune.files.settings import to_json
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.label import label
from equiprune.potentials.checkpoint import load, save
from equiprune.potentials.potential import Potential
from equiprune.pruning.allocation import allocate
from equiprune.pruning.calibration import calibrate
from equiprune.pruning.figure import plot_importance
from equiprune.pruning.importance import ImportanceScores
from equiprune.pruning.slicing import prune
from equiprune.pruning.targets import EdgeLmax, HiddenIrreps, Target
from equiprune.report.report import write_report
from equiprune.structures.probes import probe_structures
from equiprune.structures.reading import read_structures
from equiprune.training.arguments import TrainingData, Watchers
from equiprune.training.objective import sevennet_huber
from equiprune.training.observers import CurvePicture
from equiprune.training.optimisation import Linear, Optimisation
from equiprune.training.recipe import Recipe
from equiprune.training.trainer import StoppedError, train

PARENT = "7net-l3i5"
OFFICIAL = "7net-0"
SHIPPED = "7net-compact"
CHILD = "half-width"
RETRAINED = f"{CHILD}, retrained for the crystals"
REPORT = "report.html"
UPSTREAM = UpstreamEngine.name
TARGETS: Sequence[Target] = (HiddenIrreps.parse("64x0e+32x1e+16x2e"), EdgeLmax(2))
COPIES = Augmentation(copies=5, rattle=0.05, strain=0.02)
RECIPE = Recipe(sevennet_huber(), Optimisation(learning_rate=4e-3, schedule=Linear(0.01)), epochs=6, batch_size=4)

_PARITY = 100
"""Structures of a parity plot."""

_HEADINGS = [
    "model",
    "parameters",
    "crystals: E, meV/atom",
    "F, meV/Angstrom",
    "S, meV/Angstrom^3",
    "dynamics: E, meV/atom",
    "F, meV/Angstrom",
    "ms/atom, SevenNet's own code",
    "ms/atom",
    "speed",
    "memory, MiB",
    "certificate",
]
"""Errors are mean absolute ones against DFT."""


def run_demo(folder: Path) -> dict[str, Any]:
    """Do it all, print one table, and leave scores, picture, checkpoints, certificates and summary in ``folder``."""
    check_writable(folder)
    folder.mkdir()
    start = time.monotonic()

    def say(text: str) -> None:
        show(f"[{time.monotonic() - start:5.0f} s] {text}")

    say(f"Opening {PARENT} (comes with the sevenn package).")
    parent = load(PARENT)
    say("Calibrating on 56 crystals: importance of every block, in the backward pass that gives the forces.")
    scores = _calibrate(parent, folder)
    child = _child(parent, scores, folder, say)
    certificates = {CHILD: _certify(folder / f"{CHILD}.pth", say)}
    retrained = _retrain(parent, child, folder, say)
    models = {PARENT: parent, CHILD: child, RETRAINED: retrained}
    models |= {f"{SHIPPED} (comes with equiprune)": load(SHIPPED), f"{OFFICIAL} (official)": load(OFFICIAL)}
    say("Evaluating on 40 crystals of MPtrj and 8 frames of molecular dynamics of Cu, Ni, Li and Si, labelled by DFT.")
    crystals, dynamics = (evaluate(models, _shipped(name), parity=_PARITY) for name in ("evaluation", "dynamics"))
    say("Timing all models side by side.")
    atoms = probe_structures(parent.elements)["ionic"].repeat(2)
    timings = benchmark(models, atoms, engines=[ENGINES[UPSTREAM], OWN])
    rows = summary_rows(models, crystals, dynamics, timings, certificates)
    _summarise(folder, rows, timings, certificates)
    _report(folder, {"crystals": crystals, "dynamics": dynamics}, timings, certificates)
    show(f"All of this with figures, for a browser: {folder / REPORT}")
    say("Done.")
    return {"rows": rows, "certificates": certificates}


def _shipped(name: str) -> list[Any]:
    with as_file(files("equiprune.cli") / "demo_data" / f"{name}.extxyz.xz") as path:
        return list(read_structures(path))


def _calibrate(parent: Potential, folder: Path) -> ImportanceScores:
    scores = calibrate(parent, _shipped("calibration"))
    write_json(folder / "scores.json", scores.to_json())
    plot_importance(scores, folder / "importance.png")
    return scores


def _child(parent: Potential, scores: ImportanceScores, folder: Path, say: Any) -> Potential:
    plan = allocate(parent, TARGETS, scores)
    started = time.monotonic()
    child = prune(parent, plan, note={"targets": to_json(TARGETS)})
    sliced = time.monotonic() - started
    say(f"Pruned to {CHILD}: {child.parameters(trainable_only=True):,} parameters in {sliced:.1f} s. Saving.")
    save(child, folder / f"{CHILD}.pth")
    return child


def _retrain(parent: Potential, child: Potential, folder: Path, say: Any) -> Potential:
    """For the crystals at hand, which need no labels: their parent labels displaced copies of them."""
    family = COPIES.copies + 1
    copies = [a for i, a in enumerate(augmented(_shipped("evaluation"), COPIES)) if i % family]  # not the crystals
    say(f"Labelling {len(copies)} displaced copies of 40 crystals with {PARENT}.")
    labelled = list(label(parent, copies))
    training = [atoms for i, atoms in enumerate(labelled) if i % COPIES.copies]
    data = TrainingData(training, validation=labelled[:: COPIES.copies])  # one copy of each
    steps = RECIPE.epochs * -(-len(training) // RECIPE.batch_size)
    say(f"Retraining {CHILD} for {steps} steps on these copies, with {PARENT}'s labels.")
    run = folder / "retraining"
    try:
        with progress("retrain", steps) as step:
            picture = [CurvePicture(run)]
            retrained = train(child, data, RECIPE, run, watchers=Watchers(progress=step, observers=picture))
    except StoppedError:
        raise EquipruneError(f"The demo was interrupted. Remove '{folder}' and start it again.") from None
    save(retrained, folder / f"{CHILD}-retrained.pth")
    return retrained


def _certify(path: Path, say: Any) -> dict[str, Any]:
    """In a fresh process that opens both files, as anyone would."""
    say(f"Certifying {path.name} against {PARENT} in a fresh process.")
    command = [sys.executable, "-m", "equiprune", "certify", str(path), "--parent", PARENT, "--json"]
    command += ["--output", str(path.with_suffix(".certificate.md"))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 1):
        raise EquipruneError(f"Certifying {path} failed: {result.stderr.strip().removeprefix('equiprune: ')}")
    return json.loads(result.stdout)


def summary_rows(
    models: Mapping[str, Potential],
    crystals: Sequence[Accuracy],
    dynamics: Sequence[Accuracy],
    timings: Sequence[Timing],
    certificates: Mapping[str, Mapping[str, Any]],
) -> list[list[str]]:
    """One row per model."""
    rows = [_HEADINGS]
    theirs, ours = ([t for t in timings if t.engine == engine] for engine in (UPSTREAM, OWN.name))
    for (name, model), still, moving, stock, quick in zip(
        models.items(), crystals, dynamics, theirs, ours, strict=True
    ):
        certificate = certificates.get(name)
        verdict = "" if certificate is None else "passed" if certificate["passed"] else "FAILED"
        rows.append(
            [
                name,
                f"{model.parameters(trainable_only=True):,}",
                *(f"{still.mae(quantity):.1f}" for quantity in ("energy", "forces", "stress")),
                *(f"{moving.mae(quantity):.1f}" for quantity in ("energy", "forces")),
                *(f"{timing.median / timing.atoms * 1e3:.1f}" for timing in (stock, quick)),
                f"{theirs[0].median / quick.median:.1f}x",
                quick.peak_mebibytes,
                verdict,
            ]
        )
    return rows


def _report(
    folder: Path,
    accuracies: Mapping[str, Sequence[Accuracy]],
    timings: Sequence[Timing],
    certificates: Mapping[str, Mapping[str, Any]],
) -> None:
    """Results as the commands print them with --json, and the page that is made of them."""
    places = {CHILD: f"{CHILD}.pth", RETRAINED: "retraining/model"}

    def named(found: Accuracy | Timing) -> dict[str, Any]:
        return {**found.to_json(), "model": str(folder / places[found.model]) if found.model in places else found.model}

    for name, found in accuracies.items():
        write_json(folder / f"{name}.json", list(map(named, found)))
    write_json(folder / "speed.json", list(map(named, timings)))
    for name, certificate in certificates.items():
        write_json(folder / f"{name}.certificate.json", certificate)
    write_report(folder, folder / REPORT)


def _summarise(
    folder: Path, rows: list[list[str]], timings: Sequence[Timing], certificates: Mapping[str, Mapping[str, Any]]
) -> None:
    notes = [*_notes_on_numbers(timings[0], certificates), *_notes_on_models(folder)]
    show_table("", rows)
    show("\n".join(notes))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    write_text(folder / "summary.md", "\n".join([*lines, "", *(f"- {note}" for note in notes), ""]))


def _notes_on_numbers(timing: Timing, certificates: Mapping[str, Mapping[str, Any]]) -> list[str]:
    exact = {name: certificate["masked_vs_sliced"] for name, certificate in certificates.items()}
    return [
        f"Crystals: {PARENT} and {OFFICIAL} were trained on these labels. {SHIPPED} was trained on no label of DFT, "
        f"but on labels of {PARENT} for structures that began at 32 of the 40.",
        "Dynamics (of DFT, up to 3400 K): no model was trained on any of it.",
        f"Speed: energy, forces and stress of {timing.atoms} atoms, {timing.dtype}, {timing.backend}, "
        f"{timing.threads} threads, models and engines taking turns; by equiprune's code, over {PARENT} by "
        "SevenNet's own.",
        *(
            f"{name}: masked parent and pruned model differ by at most {of['energy']:.1g} eV and "
            f"{of['forces']:.1g} eV/Angstrom in float64."
            for name, of in exact.items()
        ),
    ]


def _notes_on_models(folder: Path) -> list[str]:
    return [
        f"A pruned model is an exact slice of its parent, where retraining starts. {CHILD} was retrained for "
        f"{RECIPE.epochs} epochs on displaced copies of the crystals it is evaluated on, with labels of its parent "
        "and none of DFT: a model for these crystals, not a universal one. How it learned: "
        f"{folder / 'retraining' / 'curve.png'}.",
        f"Checkpoints, certificates and a picture are in {folder}. Stock SevenNet opens them: "
        f"SevenNetCalculator('{folder}/{CHILD}.pth').",
    ]
