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
    NO_PROBES,
    NO_WEIGHTS,
    Common,
    Dtype,
    NotNegative,
    Output,
    Patterns,
    Positive,
    PresetName,
    ProbeFlags,
    Switch,
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
from equiprune.training.second_derivatives import with_products
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
    hessian: ProbeFlags = NO_PROBES,
    seed: NotNegative = 0,
    limit: Positive | None = None,
    dtype: Dtype | None = None,
    common: Common = COMMON,
) -> int:
    """Write structures with the energy, forces, stress and, if asked, Hessian products that a model gives them.

    Args:
        model: the teacher: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: structures; labels they have are not used.
        output: labelled structures (.extxyz).
        copies: distorted copies of each structure, labelled as well.
        rattle: displacement of the copies' atoms, standard deviation in Angstrom.
        strain: deformation of the copies' cells, standard deviation.
        seed: of the distortions and of the choice of rows and vectors.
        limit: use only the first this many structures.
        dtype: precision of the teacher; that of its file unless given.
    """
    probes = hessian.chosen(seed)
    check_suffix(output, "Labelled structures", ".extxyz", ".xyz")
    check_writable(output)
    teacher = open_model(model, dtype, common)
    source = augmented(islice(ep.read_structures(data), limit), Augmentation(copies, rattle, strain, seed))
    with progress("label", limit and limit * (1 + copies)) as step, replacing(output) as temporary:
        count = 0
        labelled = labelled_by(teacher, source, progress=step)
        for atoms in with_products(teacher, labelled, probes) if probes else labelled:
            ase.io.write(temporary, atoms, format="extxyz", append=True)
            count += 1
    value = {"structures": count, "teacher_sha256": teacher.checkpoint.sha256, "written": str(output)}
    value |= {"hessian": repr(probes)} if probes else {}
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
    structures, held_out = list(ep.read_structures(data)), list(ep.read_structures(validation)) if validation else []
    start = open_model(model, dtype, common)
    start = initialised(start, seed) if from_scratch else start
    objective, optimisation = _chosen(preset, weights, learning_rate, freeze or [])
    recipe = Recipe(objective, optimisation, epochs, batch_size, seed, patience)
    prints = {"data": fingerprint(data)} | ({"validation": fingerprint(validation)} if validation else {})
    note(
        f"Preset {preset}: {PRESETS[preset].source}. Keys: REF_energy, REF_forces, REF_stress, else calculator results."
    )
    if not held_out and isinstance(optimisation.schedule, Plateau):
        note("Without --validation the learning rate stays as it is, and the last model is the result.")
    steps = epochs * -(-len(structures) // batch_size)
    with progress("train", steps) as step:
        run_training(start, structures, recipe, output, validation=held_out, fingerprints=prints, progress=step)
    _report(start, output, structures, held_out, as_json=common.json)
    return 0


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
    if as_json:
        show_json({**value, "accuracy": [accuracy.to_json() for accuracy in accuracies]})
        return
    show_table("On the validation structures" if held_out else "On the training structures", table(accuracies))
    show_table("", [["", ""], *([key, plain(item)] for key, item in value.items())])
