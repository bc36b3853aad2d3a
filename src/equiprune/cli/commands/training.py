"""Training: retraining, fine-tuning, distillation, and the baseline from scratch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

import equiprune as ep
from equiprune.cli.display import Task, checking, note, plain, progresses, show_json, show_table
from equiprune.cli.flags.dashboards import UNWATCHED, WatchFlags
from equiprune.cli.flags.labels import NO_KEYS, LabelFlags
from equiprune.cli.flags.loading import IN_PROCESS, LoadingFlags
from equiprune.cli.flags.panels import COMMON, Common
from equiprune.cli.flags.processes import ALONE, ProcessFlags
from equiprune.cli.flags.recipe import DEFAULT_RECIPE, NO_WEIGHTS, RecipeFlags, WeightFlags
from equiprune.cli.flags.sample import NO_SAMPLE, SampleFlags
from equiprune.cli.flags.theory import SAME_THEORY, TheoryFlags
from equiprune.cli.flags.values import Dtype, NotNegative, Output, Switch
from equiprune.cli.opening import open_model
from equiprune.errors import EquipruneError, OutputError, TargetError
from equiprune.evaluation.accuracy import table
from equiprune.progress import silent
from equiprune.structures.labels import LabelKeys
from equiprune.structures.reading import check_apart, fingerprint, open_structures
from equiprune.structures.sampling import check_share, held_out_frames, sample_frames, structure_ids
from equiprune.structures.sequences import Selection
from equiprune.training.from_scratch import from_scratch as initialised
from equiprune.training.optimisation import Plateau
from equiprune.training.recipe import PRESETS, steps_of
from equiprune.training.references import evenly_spaced, with_scale_of_forces
from equiprune.training.replay import NO_REPLAY, Replay, relabelled, replay_said
from equiprune.training.trainer import train as run_training

Say = Callable[[str], None]


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
    chosen: RecipeFlags = DEFAULT_RECIPE,
    weights: WeightFlags = NO_WEIGHTS,
    from_scratch: Switch = False,
    theory: TheoryFlags = SAME_THEORY,
    seed: NotNegative = 0,
    dtype: Dtype | None = None,
    watch: WatchFlags = UNWATCHED,
    processes: ProcessFlags = ALONE,
    common: Common = COMMON,
) -> int:
    """Train a model on labelled structures: retraining and fine-tuning. Interrupted, the same command goes on.

    Args:
        model: where to start: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: labelled structures.
        output: directory of the run; the trained model is its subdirectory "model".
        validation: labelled structures that choose the best model.
        from_scratch: start from upstream's random initialisation instead of the model's weights: the baseline.
        seed: of the order of the structures, and of the initialisation.
        dtype: precision; that of the model's file unless given.
    """
    check_train(data, output, validation, sample, chosen, weights, from_scratch, theory, seed, watch, processes)
    theory.check_file()
    for written in (output, loading.cache):
        check_apart(written, [data, validation, *theory.files])
    observers, recipe = watch.observers(output), chosen.recipe(weights, seed)
    fabric = processes.launched()
    say: Say = note if fabric.is_global_zero else _nothing
    structures, drawn, sampled = _drawn(keys.keys.on_all(open_structures(data)), sample, seed, say)
    held_out = keys.keys.on_all(open_structures(validation)) if validation else drawn
    start = open_model(model, dtype, common, device=str(fabric.device))
    start, replay = _prepared(initialised(start, seed) if from_scratch else start, structures, theory, keys.keys, say)
    say(f"Preset {chosen.preset}: {PRESETS[chosen.preset].source}.")
    if not held_out and isinstance(recipe.optimisation.schedule, Plateau):
        say("Without --validation the learning rate stays as it is, and the last model is the result.")
    files = {"data": data, "validation": validation, "replay": theory.replay}
    prints = {name: fingerprint(path) for name, path in files.items() if path} | sampled
    steps = steps_of(recipe, len(structures), replay.per_epoch(len(structures)), fabric.world_size)
    more: dict[str, Any] = {"workers": loading.workers, "cache": loading.cache, "note": say, "observers": observers}
    more |= {"validation": held_out, "replay": replay, "fingerprints": prints, "fabric": fabric}
    looked_at = len(structures) + len(held_out) + len(replay.structures)
    shown = progresses(Task("train", steps), checking(looked_at))
    with shown if fabric.is_global_zero else nullcontext([silent, silent]) as (step, look):
        run_training(start, structures, recipe, output, progress=step, looked_at=look, **more)
    if fabric.is_global_zero:
        _report(start, output, structures, held_out, as_json=common.json)
    return 0


def check_train(
    data: Path,
    output: Path,
    validation: Path | None,
    sample: SampleFlags,
    chosen: RecipeFlags,
    weights: WeightFlags,
    from_scratch: bool,
    theory: TheoryFlags,
    seed: int,
    watch: WatchFlags,
    processes: ProcessFlags,
) -> None:
    """Refuse what can be refused before anything is opened."""
    if output.suffix in (".pth", ".model", ".pt"):
        raise OutputError(f"A run is a directory, not a checkpoint: give '{output.with_suffix('')}'.")
    theory.check(from_scratch=from_scratch)
    if chosen.patience is not None and validation is None and sample.validation_share is None:
        raise TargetError(
            "--patience waits for a better validation loss: give --validation or --validation-share, or leave it out."
        )
    chosen.recipe(weights, seed)
    _check_sample(sample, data, validation)
    watch.observers(output)
    processes.check(os.environ)


def _check_sample(sample: SampleFlags, data: Path, validation: Path | None) -> None:
    most, key, share = sample.frames_per_structure, sample.structure_key, sample.validation_share
    if share is not None and validation is not None:
        raise TargetError("--validation and --validation-share are two ways to the same; leave one out.")
    if share is not None:
        check_share(share)
    if most is None and key is not None and share is None:
        raise TargetError(
            "--structure-key tells structures apart for --frames-per-structure and --validation-share; give one of "
            "them too."
        )
    if most is not None and key is None:
        raise TargetError(f"--frames-per-structure needs --structure-key, {_possible_keys(data)}.")


def _possible_keys(data: Path) -> str:
    """What the key may be; the data of a later stage of a pipeline is not there yet."""
    try:
        first = next(ep.read_structures(data))
    except EquipruneError:
        return "the info entry that says which structure a frame is of, such as traj"
    return f"an info entry. The first structure has: {', '.join(map(str, first.info)) or 'no info at all'}"


def _nothing(_: str) -> None:
    """What the other processes say."""


def _drawn(
    structures: Sequence[Atoms], sample: SampleFlags, seed: int, say: Say
) -> tuple[Sequence[Atoms], Sequence[Atoms], dict[str, str]]:
    """Structures to train on, those drawn for validation, and what the history of the model says of the choice."""
    most, share, key = sample.frames_per_structure, sample.validation_share, sample.structure_key
    if most is None and share is None:
        return structures, (), {}
    ids = np.arange(len(structures)) if key is None else structure_ids(structures, key)
    kept, facts = np.arange(len(ids)), {}
    if most is not None:
        kept = sample_frames(ids, most, seed)
        part = f"{100 * len(kept) / len(ids):.0f} % of the frames ({len(kept)} of {len(ids)})"
        say(f"Sample: {part}, {len(np.unique(ids))} structures, at most {most} of each '{key}'.")
        facts["sample"] = f"at most {most} of each {key}, seed {seed}"
    if share is None:
        return Selection(structures, kept), (), facts
    held_out = held_out_frames(ids[kept], share, seed)
    apart = f"told apart by '{key}'" if key else "each frame a structure of its own (see --structure-key)"
    say(f"Validation: {len(held_out)} of {len(kept)} frames, those of {share:g} of the structures, {apart}.")
    facts["validation"] = f"{share:g} of the structures by {key or 'frame'}, seed {seed}"
    return Selection(structures, np.delete(kept, held_out)), Selection(structures, kept[held_out]), facts


def _prepared(
    start: ep.Potential, structures: Sequence[Atoms], theory: TheoryFlags, keys: LabelKeys, say: Say
) -> tuple[ep.Potential, Replay]:
    """Where training starts, with its energies of elements looked after, and what is replayed; all of it is said."""
    if theory.scale == "rms-forces":
        start, said = with_scale_of_forces(start, structures)
        say(said)
    referenced = theory.chosen(start.architecture.cutoff, keys).apply(start, structures)
    say(referenced.said)
    if theory.replay is None:
        return referenced.potential, NO_REPLAY
    replay = theory.replayed(relabelled(open_structures(theory.replay), referenced.changes))
    say(replay_said(replay, referenced, len(structures)))
    return referenced.potential, replay


def _report(
    start: ep.Potential, run: Path, structures: Sequence[Atoms], held_out: Sequence[Atoms], *, as_json: bool
) -> None:
    """Errors before and after, on what chose the model or else on some of what it was trained on."""
    trained = {
        "start": start,
        "trained": ep.load(run / "model", dtype=start.dtype, head=start.head, device=start.device),
    }
    looked_at = held_out or evenly_spaced(structures)
    accuracies = ep.evaluate(trained, looked_at)
    value = {"model": str(run / "model"), "curve": str(run / "curve.csv"), "picture": str(run / "curve.png")}
    value |= {"last": str(run / "last")} if held_out else {}
    if as_json:
        show_json({**value, "accuracy": [accuracy.to_json() for accuracy in accuracies]})
        return
    which = "the validation structures" if held_out else f"{len(looked_at)} of {len(structures)} training structures"
    show_table(f"On {which}", table(accuracies))
    show_table("", [["", ""], *([key, plain(item)] for key, item in value.items())])
