"""Making labels and training on them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import ase.io
from ase import Atoms

import equiprune as ep
from equiprune.display import note, plain, progress, show, show_json, show_table
from equiprune.errors import OutputError
from equiprune.evaluation.accuracy import table
from equiprune.flags import (
    COMMON,
    NO_WEIGHTS,
    SAME_THEORY,
    Common,
    Dtype,
    NotNegative,
    Output,
    Patterns,
    Positive,
    PresetName,
    Switch,
    TheoryFlags,
    WeightFlags,
)
from equiprune.opening import check_suffix, open_model
from equiprune.storage import check_writable, replacing
from equiprune.structures import fingerprint
from equiprune.training.labelling import Augmentation, augmented
from equiprune.training.labelling import label as labelled_by
from equiprune.training.objective import Objective
from equiprune.training.optimisation import Optimisation, Plateau
from equiprune.training.recipes import PRESETS
from equiprune.training.references import with_scale_of_forces
from equiprune.training.replay import NO_REPLAY, Replay, relabelled, replay_said
from equiprune.training.start import from_scratch as initialised
from equiprune.training.trainer import Recipe
from equiprune.training.trainer import train as run_training


def label(
    model: str,
    data: Path,
    /,
    *,
    output: Output,
    copies: NotNegative = 0,
    rattle: float = 0.1,
    strain: float = 0.02,
    seed: NotNegative = 0,
    limit: Positive | None = None,
    dtype: Dtype | None = None,
    common: Common = COMMON,
) -> int:
    """Write structures with the energy, forces and stress that a model gives them: labels from a teacher.

    Args:
        model: the teacher: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: structures; labels they have are not used.
        output: labelled structures (.extxyz).
        copies: distorted copies of each structure, labelled as well.
        rattle: displacement of the copies' atoms, standard deviation in Angstrom.
        strain: deformation of the copies' cells, standard deviation.
        seed: of the distortions.
        limit: use only the first this many structures.
        dtype: precision of the teacher; that of its file unless given.
    """
    check_suffix(output, "Labelled structures", ".extxyz", ".xyz")
    check_writable(output)
    teacher = open_model(model, dtype, common)
    source = augmented(islice(ep.read_structures(data), limit), Augmentation(copies, rattle, strain, seed))
    with progress("label", limit and limit * (1 + copies)) as step, replacing(output) as temporary:
        count = 0
        for atoms in labelled_by(teacher, source, progress=step):
            ase.io.write(temporary, atoms, format="extxyz", append=True)
            count += 1
    value = {"structures": count, "teacher_sha256": teacher.checkpoint.sha256, "written": str(output)}
    show_json(value) if common.json else show(f"Labelled {count} structures: {output}")
    return 0


def train(
    model: str,
    /,
    *,
    data: Path,
    output: Output,
    validation: Path | None = None,
    preset: PresetName = "mace-universal",
    weights: WeightFlags = NO_WEIGHTS,
    epochs: Positive = 10,
    batch_size: Positive = 4,
    learning_rate: float | None = None,
    patience: NotNegative | None = None,
    freeze: Patterns | None = None,
    from_scratch: Switch = False,
    theory: TheoryFlags = SAME_THEORY,
    seed: NotNegative = 0,
    dtype: Dtype | None = None,
    common: Common = COMMON,
) -> int:
    """Train a model on labelled structures: retraining and fine-tuning. Interrupted, the same command goes on.

    Args:
        model: where to start: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: labelled structures.
        output: directory of the run; the trained model is its subdirectory "model".
        validation: labelled structures that choose the best model.
        preset: objective and optimisation.
        epochs: passes over the data.
        batch_size: structures per step.
        learning_rate: instead of the preset's.
        patience: stop after more epochs than this without a better validation loss.
        freeze: patterns of parameter names that stay as they are, e.g. "readouts.*".
        from_scratch: start from upstream's random initialisation instead of the model's weights: the baseline.
        seed: of the order of the structures, and of the initialisation.
        dtype: precision; that of the model's file unless given.
    """
    if output.suffix in (".pth", ".model"):
        raise OutputError(f"A run is a directory, not a checkpoint: give '{output.with_suffix('')}'.")
    theory.check(from_scratch=from_scratch)
    structures, held_out = list(ep.read_structures(data)), list(ep.read_structures(validation)) if validation else []
    start = open_model(model, dtype, common)
    start, replay = _prepared(initialised(start, seed) if from_scratch else start, structures, theory)
    objective, optimisation = _chosen(preset, weights, learning_rate, freeze or [])
    recipe = Recipe(objective, optimisation, epochs, batch_size, seed, patience)
    files = {"data": data, "validation": validation, "replay": theory.replay}
    prints = {name: fingerprint(path) for name, path in files.items() if path}
    note(
        f"Preset {preset}: {PRESETS[preset].source}. Keys: REF_energy, REF_forces, REF_stress, else calculator results."
    )
    if not held_out and isinstance(optimisation.schedule, Plateau):
        note("Without --validation the learning rate stays as it is, and the last model is the result.")
    steps = epochs * -(-(len(structures) + replay.per_epoch(len(structures))) // batch_size)
    with progress("train", steps) as step:
        run_training(
            start, structures, recipe, output, validation=held_out, replay=replay, fingerprints=prints, progress=step
        )
    _report(start, output, structures, held_out, as_json=common.json)
    return 0


def _prepared(start: ep.Potential, structures: list[Atoms], theory: TheoryFlags) -> tuple[ep.Potential, Replay]:
    """Where training starts, with its energies of elements looked after, and what is replayed; all of it is said."""
    if theory.scale == "rms-forces":
        start, said = with_scale_of_forces(start, structures)
        note(said)
    referenced = theory.chosen(start.architecture.cutoff).apply(start, structures)
    note(referenced.said)
    if theory.replay is None:
        return referenced.potential, NO_REPLAY
    share = Replay.share if theory.replay_share is None else theory.replay_share
    replay = Replay(relabelled(list(ep.read_structures(theory.replay)), referenced.changes), share)
    note(replay_said(replay, referenced, len(structures)))
    return referenced.potential, replay


def _chosen(
    preset: PresetName, weights: WeightFlags, learning_rate: float | None, frozen: list[str]
) -> tuple[Objective, Optimisation]:
    """The preset, with what the flags say instead."""
    chosen = PRESETS[preset]
    optimisation = replace(chosen.optimisation, rates=dict.fromkeys(frozen, 0.0))
    if learning_rate is not None:
        optimisation = replace(optimisation, learning_rate=learning_rate)
    return weights.on(chosen.objective), optimisation


def _report(start: ep.Potential, run: Path, structures: list[Atoms], held_out: list[Atoms], *, as_json: bool) -> None:
    """Errors before and after, on what chose the model or else on what it was trained on."""
    trained = {"start": start, "trained": ep.load(run / "model", dtype=start.dtype, head=start.head)}
    accuracies = ep.evaluate(trained, held_out or structures)
    value = {"model": str(run / "model"), "curve": str(run / "curve.csv")}
    value |= {"last": str(run / "last")} if held_out else {}
    if as_json:
        show_json({**value, "accuracy": [accuracy.to_json() for accuracy in accuracies]})
        return
    show_table("On the validation structures" if held_out else "On the training structures", table(accuracies))
    show_table("", [["", ""], *([key, plain(item)] for key, item in value.items())])
