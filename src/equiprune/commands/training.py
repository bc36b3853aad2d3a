"""Making labels and training on them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import ase.io
from ase import Atoms

import equiprune as ep
from equiprune.display import note, plain, progress, show, show_json, show_table
from equiprune.errors import OutputError, TargetError
from equiprune.evaluation.accuracy import table
from equiprune.flags import (
    COMMON,
    IN_PROCESS,
    NO_KEYS,
    NO_PROBES,
    NO_SAMPLE,
    NO_WEIGHTS,
    SAME_THEORY,
    UNWATCHED,
    Common,
    Dtype,
    LabelFlags,
    LoadingFlags,
    NotNegative,
    Output,
    Patterns,
    Positive,
    PresetName,
    ProbeFlags,
    SampleFlags,
    Switch,
    TheoryFlags,
    WatchFlags,
    WeightFlags,
)
from equiprune.hessian import Probes
from equiprune.opening import check_suffix, open_model
from equiprune.storage import check_writable, replacing
from equiprune.structure_files import Selection
from equiprune.structures import fingerprint, open_structures
from equiprune.training.labelling import Augmentation, Dynamics, augmented, simulated
from equiprune.training.labelling import label as labelled_by
from equiprune.training.objective import Objective
from equiprune.training.optimisation import Optimisation, Plateau
from equiprune.training.recipes import PRESETS
from equiprune.training.references import with_scale_of_forces
from equiprune.training.replay import NO_REPLAY, Replay, relabelled, replay_said
from equiprune.training.sampling import sample_frames, structure_ids
from equiprune.training.second_derivatives import with_products
from equiprune.training.start import from_scratch as initialised
from equiprune.training.teachers import CalculatorTeacher, PotentialTeacher, Teacher
from equiprune.training.trainer import Recipe
from equiprune.training.trainer import train as run_training


def label(
    model: str,
    data: Path,
    /,
    *,
    output: Output,
    options: str = "{}",
    copies: NotNegative = 0,
    rattle: float = 0.1,
    strain: float = 0.02,
    frames: NotNegative = 0,
    temperature: float = 600.0,
    interval: Positive = 20,
    timestep: float = 1.0,
    hessian: ProbeFlags = NO_PROBES,
    seed: NotNegative = 0,
    limit: Positive | None = None,
    dtype: Dtype | None = None,
    common: Common = COMMON,
) -> int:
    """Write structures with the energy, forces, stress and, if asked, Hessian products that a model gives them.

    Args:
        model: the teacher: an alias, an upstream checkpoint, a directory that equiprune wrote, or module:callable for
            any ASE calculator, e.g. ase.calculators.emt:EMT.
        data: structures; labels they have are not used.
        output: labelled structures (.extxyz).
        options: what to call module:callable with, as JSON.
        copies: distorted copies of each structure, labelled as well.
        rattle: displacement of the copies' atoms, standard deviation in Angstrom.
        strain: deformation of the copies' cells, standard deviation.
        frames: of molecular dynamics with the teacher that starts from each structure, labelled as well.
        temperature: of the dynamics, K.
        interval: steps between its frames.
        timestep: of the dynamics, fs.
        seed: of distortions and dynamics, and of the choice of rows and vectors.
        limit: use only the first this many structures.
        dtype: precision of the teacher; that of its file unless given.
    """
    probes = hessian.chosen(seed)
    check_suffix(output, "Labelled structures", ".extxyz", ".xyz")
    check_writable(output)
    augmentation = Augmentation(copies, rattle, strain, seed)
    dynamics = Dynamics(frames, temperature, interval, timestep, seed)
    teacher = _teacher(model, options, dtype, common)
    source = augmented(islice(ep.read_structures(data), limit), augmentation)
    source = simulated(source, teacher.calculator, dynamics)
    with progress("label", limit and limit * (1 + copies) * (1 + frames)) as step, replacing(output) as temporary:
        count = 0
        labelled = labelled_by(teacher, source, progress=step)
        for atoms in _multiplied(teacher, labelled, probes) if probes else labelled:
            ase.io.write(temporary, atoms, format="extxyz", append=True)
            count += 1
    value = {"structures": count, "teacher_sha256": teacher.fingerprint, "written": str(output)}
    value |= {"hessian": repr(probes)} if probes else {}
    show_json(value) if common.json else show(f"Labelled {count} structures: {output}")
    return 0


def _multiplied(teacher: Teacher, labelled: Iterable[Atoms], probes: Probes) -> Iterator[Atoms]:
    """With products of the teacher's Hessian."""
    if isinstance(teacher, CalculatorTeacher):
        raise TargetError(
            f"{teacher.name} gives no products of its Hessian, only a model does. Leave out --hessian-rows and "
            "--hessian-probes."
        )
    return with_products(teacher.potential, labelled, probes)


def _teacher(model: str, options: str, dtype: Dtype | None, common: Common) -> Teacher:
    """A model, or the calculator that ``module:callable`` gives."""
    if not re.fullmatch(r"[\w.]+:\w+", model) or Path(model).exists():
        if options != "{}":
            raise TargetError("--options are for a calculator named as module:callable. Leave them out.")
        return PotentialTeacher(open_model(model, dtype, common))
    try:
        chosen = json.loads(options)
    except json.JSONDecodeError as error:
        raise TargetError(f"--options '{options}' is not JSON ({error}). Give e.g. '{{\"epsilon\": 0.5}}'.") from None
    if not isinstance(chosen, dict):
        raise TargetError(f"--options '{options}' is not a JSON object. Give e.g. '{{\"epsilon\": 0.5}}'.")
    return CalculatorTeacher.named(model, chosen)


def train(
    model: str,
    /,
    *,
    data: Path,
    output: Output,
    validation: Path | None = None,
    keys: LabelFlags = NO_KEYS,
    sample: SampleFlags = NO_SAMPLE,
    loading: LoadingFlags = IN_PROCESS,
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
    watch: WatchFlags = UNWATCHED,
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
    observers = watch.observers(output)
    structures, sampled = _sampled(keys.keys.on_all(open_structures(data)), sample, seed)
    held_out = keys.keys.on_all(open_structures(validation)) if validation else ()
    start = open_model(model, dtype, common)
    start, replay = _prepared(initialised(start, seed) if from_scratch else start, structures, theory)
    objective, optimisation = _chosen(preset, weights, learning_rate, freeze or [])
    recipe = Recipe(objective, optimisation, epochs, batch_size, seed, patience)
    files = {"data": data, "validation": validation, "replay": theory.replay}
    prints = {name: fingerprint(path) for name, path in files.items() if path} | sampled
    note(f"Preset {preset}: {PRESETS[preset].source}.")
    if not held_out and isinstance(optimisation.schedule, Plateau):
        note("Without --validation the learning rate stays as it is, and the last model is the result.")
    steps = epochs * -(-(len(structures) + replay.per_epoch(len(structures))) // batch_size)
    with progress("train", steps) as step:
        run_training(
            start,
            structures,
            recipe,
            output,
            validation=held_out,
            replay=replay,
            fingerprints=prints,
            workers=loading.workers,
            cache=loading.cache,
            note=note,
            progress=step,
            observers=observers,
        )
    _report(start, output, structures, held_out, as_json=common.json)
    return 0


def _sampled(structures: Sequence[Atoms], sample: SampleFlags, seed: int) -> tuple[Sequence[Atoms], dict[str, str]]:
    """The structures to train on, and what the history of the model says of their choice."""
    most, key = sample.frames_per_structure, sample.structure_key
    if most is None and key is None:
        return structures, {}
    if most is None:
        raise TargetError("--structure-key tells structures apart for --frames-per-structure; give that too.")
    if key is None:
        there = ", ".join(map(str, structures[0].info)) or "no info at all"
        raise TargetError(f"--frames-per-structure needs --structure-key. The first structure has: {there}.")
    ids = structure_ids(structures, key)
    kept = sample_frames(ids, most, seed)
    share = f"{100 * len(kept) / len(ids):.0f} % of the frames ({len(kept)} of {len(ids)})"
    note(f"Sample: {share}, {len(set(ids.tolist()))} structures, at most {most} of each '{key}'.")
    return Selection(structures, kept), {"sample": f"at most {most} of each {key}, seed {seed}"}


def _prepared(start: ep.Potential, structures: Sequence[Atoms], theory: TheoryFlags) -> tuple[ep.Potential, Replay]:
    """Where training starts, with its energies of elements looked after, and what is replayed; all of it is said."""
    if theory.scale == "rms-forces":
        start, said = with_scale_of_forces(start, structures)
        note(said)
    referenced = theory.chosen(start.architecture.cutoff).apply(start, structures)
    note(referenced.said)
    if theory.replay is None:
        return referenced.potential, NO_REPLAY
    share = Replay.share if theory.replay_share is None else theory.replay_share
    replay = Replay(relabelled(open_structures(theory.replay), referenced.changes), share)
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


def _report(
    start: ep.Potential, run: Path, structures: Sequence[Atoms], held_out: Sequence[Atoms], *, as_json: bool
) -> None:
    """Errors before and after, on what chose the model or else on what it was trained on."""
    trained = {"start": start, "trained": ep.load(run / "model", dtype=start.dtype, head=start.head)}
    accuracies = ep.evaluate(trained, held_out or structures)
    value = {"model": str(run / "model"), "curve": str(run / "curve.csv"), "picture": str(run / "curve.png")}
    value |= {"last": str(run / "last")} if held_out else {}
    if as_json:
        show_json({**value, "accuracy": [accuracy.to_json() for accuracy in accuracies]})
        return
    show_table("On the validation structures" if held_out else "On the training structures", table(accuracies))
    show_table("", [["", ""], *([key, plain(item)] for key, item in value.items())])
