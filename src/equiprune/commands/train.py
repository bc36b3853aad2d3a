"""Training: retraining, fine-tuning, distillation, and the baseline from scratch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from ase import Atoms

import equiprune as ep
from equiprune.adapters.base import ModelAdapter
from equiprune.commands.opening import open_model
from equiprune.commands.options.dashboards import UNWATCHED, WatchOptions
from equiprune.commands.options.features import NO_FEATURES, FeatureOptions
from equiprune.commands.options.labels import NO_KEYS, LabelOptions
from equiprune.commands.options.loading import IN_PROCESS, LoadingOptions
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.processes import ALONE, ProcessOptions
from equiprune.commands.options.recipe import DEFAULT_RECIPE, NO_WEIGHTS, RecipeOptions, WeightOptions
from equiprune.commands.options.sample import NO_SAMPLE, SampleOptions
from equiprune.commands.options.theory import SAME_THEORY, TheoryOptions
from equiprune.commands.options.values import Data, Dtype, Model, NotNegative, Output, Switch
from equiprune.commands.request import Request, remarks
from equiprune.commands.stages import Kind, Product, Takes, newest_data
from equiprune.errors import EquipruneError, OutputError, TargetError
from equiprune.progress import Display, Task, checking, unseen
from equiprune.structures.labels import LabelKeys
from equiprune.structures.reading import check_apart, fingerprint, open_structures
from equiprune.structures.sampling import held_out_frames, sample_frames, structure_ids
from equiprune.structures.sequences import Selection
from equiprune.training.arguments import Resources, TrainingData, Watchers
from equiprune.training.from_scratch import from_scratch as initialised
from equiprune.training.optimisation import Plateau
from equiprune.training.recipe import PRESETS, Recipe, steps_of
from equiprune.training.references import evenly_spaced, with_scale_of_forces
from equiprune.training.replay import NO_REPLAY, Replay, relabelled, replay_said
from equiprune.training.trainer import train as run_training

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        run: its directory.
        accuracies: of the model before and after, on what chose it or else on some of what it was trained on; none
            where no label took part.
        validated: whether structures chose the model.
        looked_at, structures: how many the accuracies are of, and how many it was trained on.
    """

    run: Path
    accuracies: tuple[ep.Accuracy, ...]
    validated: bool
    looked_at: int
    structures: int

    @property
    def files(self) -> dict[str, str]:
        """The result, the learning curve, and the model after the last step where that is another one."""
        found = {"model": str(self.run / "model")}
        found |= {"curve": str(self.run / "curve.csv"), "picture": str(self.run / "curve.png")}
        return found | ({"last": str(self.run / "last")} if self.validated else {})

    def to_json(self) -> dict[str, Any]:
        return {**self.files, "accuracy": [accuracy.to_json() for accuracy in self.accuracies]}


@dataclass(frozen=True)
class _Sets:
    """Structures to train on and those held out, and what the history of the model says of the choice."""

    training: Sequence[Atoms]
    held_out: Sequence[Atoms]
    facts: dict[str, str]


@dataclass(frozen=True)
class Train(Request[Trained | None]):
    """Train a model on labelled structures: retraining and fine-tuning. Interrupted, the same command goes on.

    Attributes:
        model: where to start: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: labelled structures.
        output: directory of the run; the trained model is its subdirectory "model".
        validation: labelled structures that choose the best model.
        from_scratch: start from upstream's random initialisation instead of the model's weights: the baseline.
        seed: of the order of the structures, and of the initialisation.
        dtype: precision; that of the model's file unless given.
    """

    stage: ClassVar[Kind] = Kind("run", Product.MODEL, product="{output}/model", keeps="{output}")

    model: Model
    _: KW_ONLY
    data: Annotated[Path, Takes.of(Product.DATA, rule=newest_data)]
    output: Output
    validation: Data | None = None
    labels: LabelOptions = NO_KEYS
    sample: SampleOptions = NO_SAMPLE
    loading: LoadingOptions = IN_PROCESS
    recipe: RecipeOptions = DEFAULT_RECIPE
    weights: WeightOptions = NO_WEIGHTS
    features: FeatureOptions = NO_FEATURES
    from_scratch: Switch = False
    theory: TheoryOptions = SAME_THEORY
    seed: NotNegative = 0
    dtype: Dtype | None = None
    watch: WatchOptions = UNWATCHED
    processes: ProcessOptions = ALONE
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        if self.output.suffix in (".pth", ".model", ".pt"):
            raise OutputError(f"A run is a directory, not a checkpoint: give '{self.output.with_suffix('')}'.")
        self.theory.check_start(from_scratch=self.from_scratch)
        if self.recipe.patience is not None and self.validation is None and self.sample.validation_share is None:
            raise TargetError(
                "`patience` waits for a better validation loss: give `validation` or `validation_share`, or leave it "
                "out."
            )
        self._recipe()  # raises what is wrong with it
        self._check_sample()
        self.watch.observers(self.output)
        self.processes.check_machine(os.environ)

    def _check_sample(self) -> None:
        if self.sample.validation_share is not None and self.validation is not None:
            raise TargetError("`validation` and `validation_share` are two ways to the same; leave one out.")
        if self.sample.frames_per_structure is not None and self.sample.structure_key is None:
            raise TargetError(f"`frames_per_structure` needs `structure_key`, {_possible_keys(self.data)}.")

    def run(self, display: Display = unseen) -> Trained | None:
        """Train; None in a process that is not the first of several.

        Raises:
            StoppedError: asked to stop (Ctrl-C, SIGTERM); the state is saved.
            EquipruneError: files, structures, labels or models that cannot be used, or a run of something else.
        """
        self.theory.check_file()
        for written in (self.output, self.loading.cache):
            check_apart(written, [self.data, self.validation, *self.theory.files])
        observers = self.watch.observers(self.output)
        fabric = self.processes.launched()
        say: Say = remarks.info if fabric.is_global_zero else _nothing
        sets = self._sets(say)
        start, replay = self._start(sets.training, str(fabric.device), say)
        parent = open_model(self.features.parent, self.dtype, self.opening) if self.features.parent else None
        preset = self.recipe.preset or start.adapter.preset
        recipe = self._recipe(preset)
        say(f"Preset {preset}: {PRESETS[preset].source}.")
        if not sets.held_out and isinstance(recipe.optimisation.schedule, Plateau):
            say("Without `validation` the learning rate stays as it is, and the last model is the result.")
        own = len(sets.training)
        steps = steps_of(recipe, own, replay.per_epoch(own), fabric.world_size)
        data = TrainingData(sets.training, sets.held_out, replay, self._prints() | sets.facts, parent)
        resources = Resources(fabric, self.loading.workers, self.loading.cache)
        looked_at = checking(own + len(sets.held_out) + len(replay.structures))
        shown = display if fabric.is_global_zero else unseen
        with shown(Task("train", steps), looked_at) as (step, look):
            watchers = Watchers(say, step, look, observers)
            run_training(start, data, recipe, self.output, resources=resources, watchers=watchers)
        labelled = bool(recipe.objective.labelled())
        return self._trained(start, sets, labelled=labelled) if fabric.is_global_zero else None

    def _recipe(self, preset: str = ModelAdapter.preset) -> Recipe:
        return self.recipe.recipe(self.weights, self.seed, self.features.term, preset)

    def _prints(self) -> dict[str, str]:
        files = {"data": self.data, "validation": self.validation, "replay": self.theory.replay}
        return {name: fingerprint(path) for name, path in files.items() if path}

    def _sets(self, say: Say) -> _Sets:
        read = self.labels.keys.on_all
        drawn = _drawn(read(open_structures(self.data)), self.sample, self.seed, say)
        held_out = read(open_structures(self.validation)) if self.validation else drawn.held_out
        return _Sets(drawn.training, held_out, drawn.facts)

    def _start(self, structures: Sequence[Atoms], device: str, say: Say) -> tuple[ep.Potential, Replay]:
        """The model where training starts, with its atomic reference energies adjusted, and what is replayed."""
        start = open_model(self.model, self.dtype, self.opening, device=device)
        start = initialised(start, self.seed) if self.from_scratch else start
        return _prepared(start, structures, self.theory, self.labels.keys, say)

    def _trained(self, start: ep.Potential, sets: _Sets, *, labelled: bool) -> Trained:
        how: dict[str, Any] = {"dtype": start.dtype, "head": start.head, "device": start.device}
        models = {"start": start, "trained": ep.load(self.output / "model", **how)}
        looked_at = sets.held_out or evenly_spaced(sets.training)
        accuracies = tuple(ep.evaluate(models, looked_at)) if labelled else ()
        return Trained(self.output, accuracies, bool(sets.held_out), len(looked_at), len(sets.training))


def _possible_keys(data: Path) -> str:
    """Possible keys, as a phrase; the data of a later stage of a pipeline is not there yet."""
    try:
        first = next(ep.read_structures(data))
    except EquipruneError:
        return "the info entry that says which structure a frame is of, such as traj"
    return f"an info entry. The first structure has: {', '.join(map(str, first.info)) or 'no info at all'}"


def _nothing(_: str) -> None:
    """Say nothing, as all processes but the first."""


def _drawn(structures: Sequence[Atoms], sample: SampleOptions, seed: int, say: Say) -> _Sets:
    """Structures to train on, and those drawn for validation."""
    most, share, key = sample.frames_per_structure, sample.validation_share, sample.structure_key
    if most is None and share is None:
        return _Sets(structures, (), {})
    ids = np.arange(len(structures)) if key is None else structure_ids(structures, key)
    kept, facts = np.arange(len(ids)), {}
    if most is not None:
        kept = sample_frames(ids, most, seed)
        part = f"{100 * len(kept) / len(ids):.0f} % of the frames ({len(kept)} of {len(ids)})"
        say(f"Sample: {part}, {len(np.unique(ids))} structures, at most {most} of each '{key}'.")
        facts["sample"] = f"at most {most} of each {key}, seed {seed}"
    if share is None:
        return _Sets(Selection(structures, kept), (), facts)
    held_out = held_out_frames(ids[kept], share, seed)
    apart = f"told apart by '{key}'" if key else "each frame a structure of its own (see `structure_key`)"
    say(f"Validation: {len(held_out)} of {len(kept)} frames, those of {share:g} of the structures, {apart}.")
    facts["validation"] = f"{share:g} of the structures by {key or 'frame'}, seed {seed}"
    return _Sets(Selection(structures, np.delete(kept, held_out)), Selection(structures, kept[held_out]), facts)


def _prepared(
    start: ep.Potential, structures: Sequence[Atoms], theory: TheoryOptions, keys: LabelKeys, say: Say
) -> tuple[ep.Potential, Replay]:
    """A model with its energies of elements looked after, and what is replayed; all of it is said."""
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
