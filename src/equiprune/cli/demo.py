"""The demo: the main job, on a real model that comes with ``pip install`` and real crystals that come with equiprune.

Calibrate SevenNet-l3i5, prune it to SevenNet-0's irreps and to half width, certify both in fresh processes, retrain the
smaller one on its parent's labels for a few minutes, evaluate and time all beside their parent and the official
SevenNet-0, and save checkpoints that stock SevenNet tools open.
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
from equiprune.pruning.targets import EdgeLmax, HiddenIrreps, Lmax, Target
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
TARGETS: Mapping[str, Sequence[Target]] = {
    "7net-0-irreps": (Lmax(2), EdgeLmax(2)),
    "half-width": (HiddenIrreps.parse("64x0e+32x1e+16x2e"), EdgeLmax(2)),
}
"""File name of each child and what it is pruned to."""
RETRAINED = "half-width"
COPIES = Augmentation(copies=5, rattle=0.05, strain=0.02)
RECIPE = Recipe(sevennet_huber(), Optimisation(learning_rate=4e-3, schedule=Linear(0.01)), epochs=6, batch_size=4)

_HEADINGS = [
    "model",
    "parameters",
    "E MAE, meV/atom",
    "F MAE, meV/Angstrom",
    "S MAE, meV/Angstrom^3",
    "ms/atom",
    "speed",
    "peak memory, MiB",
    "certificate",
]


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
    children = {name: _child(parent, name, scores, folder, say) for name in TARGETS}
    certificates = {name: _certify(folder / f"{name}.pth", say) for name in children}
    retrained = {f"{RETRAINED}, retrained for them": _retrain(parent, children[RETRAINED], folder, say)}
    models = {PARENT: parent, **children, **retrained, f"{OFFICIAL} (official)": load(OFFICIAL)}
    say("Evaluating on 40 crystals with DFT labels (PBE, from MPtrj; parent and 7net-0 were trained on MPtrj).")
    accuracies = evaluate(models, _shipped("evaluation"))
    say("Timing all models side by side.")
    timings = benchmark(models, probe_structures(parent.elements)["ionic"].repeat(2))
    rows = summary_rows(models, accuracies, timings, certificates)
    _report(folder, rows, timings, certificates)
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


def _child(parent: Potential, name: str, scores: ImportanceScores, folder: Path, say: Any) -> Potential:
    plan = allocate(parent, TARGETS[name], scores)
    started = time.monotonic()
    child = prune(parent, plan, note={"targets": to_json(TARGETS[name])})
    sliced = time.monotonic() - started
    say(f"Pruned to {name}: {child.parameters(trainable_only=True):,} parameters in {sliced:.1f} s. Saving.")
    save(child, folder / f"{name}.pth")
    return child


def _retrain(parent: Potential, child: Potential, folder: Path, say: Any) -> Potential:
    """For the crystals at hand, which need no labels: their parent labels displaced copies of them."""
    family = COPIES.copies + 1
    copies = [a for i, a in enumerate(augmented(_shipped("evaluation"), COPIES)) if i % family]  # not the crystals
    labelled = list(label(parent, copies))
    training = [atoms for i, atoms in enumerate(labelled) if i % COPIES.copies]
    data = TrainingData(training, validation=labelled[:: COPIES.copies])  # one copy of each
    steps = RECIPE.epochs * -(-len(training) // RECIPE.batch_size)
    say(f"Retraining {RETRAINED} for {steps} steps on displaced copies of 40 crystals, with {PARENT}'s labels.")
    run = folder / "retraining"
    try:
        with progress("retrain", steps) as step:
            picture = [CurvePicture(run)]
            retrained = train(child, data, RECIPE, run, watchers=Watchers(progress=step, observers=picture))
    except StoppedError:
        raise EquipruneError(f"The demo was interrupted. Remove '{folder}' and start it again.") from None
    save(retrained, folder / f"{RETRAINED}-retrained.pth")
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
    accuracies: Sequence[Accuracy],
    timings: Sequence[Timing],
    certificates: Mapping[str, Mapping[str, Any]],
) -> list[list[str]]:
    """One row per model."""
    rows = [_HEADINGS]
    for (name, model), accuracy, timing in zip(models.items(), accuracies, timings, strict=True):
        errors = [f"{accuracy.mae(quantity):.1f}" for quantity in ("energy", "forces", "stress")]
        certificate = certificates.get(name)
        verdict = "" if certificate is None else "passed" if certificate["passed"] else "FAILED"
        rows.append(
            [
                name,
                f"{model.parameters(trainable_only=True):,}",
                *errors,
                f"{timing.median / timing.atoms * 1e3:.1f}",
                f"{timings[0].median / timing.median:.2f}x",
                timing.peak_mebibytes,
                verdict,
            ]
        )
    return rows


def _report(
    folder: Path, rows: list[list[str]], timings: Sequence[Timing], certificates: Mapping[str, Mapping[str, Any]]
) -> None:
    notes = [
        f"Speed: energy, forces and stress of {timings[0].atoms} atoms, {timings[0].dtype}, {timings[0].backend}, "
        f"{timings[0].threads} threads, models taking turns; relative to {PARENT}.",
        *(
            f"{name}: masked parent and pruned model differ by at most {exact['energy']:.1g} eV and "
            f"{exact['forces']:.1g} eV/Angstrom in float64."
            for name, exact in ((name, c["masked_vs_sliced"]) for name, c in certificates.items())
        ),
        f"Pruned models are exact slices of their parent, where retraining starts. {RETRAINED} was retrained for "
        f"{RECIPE.epochs} epochs on displaced copies of the crystals it is evaluated on, with labels of its parent "
        "and none of DFT: a model for these crystals, not a universal one. How it learned: "
        f"{folder / 'retraining' / 'curve.png'}.",
        f"Checkpoints, certificates and a picture are in {folder}. Stock SevenNet opens them: "
        f"SevenNetCalculator('{folder}/half-width.pth').",
    ]
    show_table("", rows)
    show("\n".join(notes))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    write_text(folder / "summary.md", "\n".join([*lines, "", *(f"- {note}" for note in notes), ""]))
