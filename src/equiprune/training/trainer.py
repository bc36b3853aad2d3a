"""The training loop, on Lightning Fabric: one process or many, stopped and resumed at any step.

A run is a directory. ``recipe.json`` holds every choice and the fingerprints of model and data; a run whose recipe
differs is refused, not resumed. ``state.pt`` is the whole state after the last saved step; on a CPU a resumed run ends
in the same bits as one that was never stopped. ``curve.csv`` is the learning curve: a line for every step, with the
validation losses on the last one of an epoch. ``model`` is the result; where validation chose it, ``last`` is the model
after the last step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters import load_weights
from equiprune.adapters.history import Trained
from equiprune.adapters.precision import dtype_name
from equiprune.errors import EquipruneError, TargetError
from equiprune.potentials.atomic_energies import reference_steps
from equiprune.potentials.checkpoint import save
from equiprune.potentials.derivatives import Predictor
from equiprune.potentials.potential import Potential, check_predicted
from equiprune.progress import Progress
from equiprune.structures.sequences import Concatenation
from equiprune.training.arguments import ONE_CPU, UNWATCHED, Resources, TrainingData, Watchers
from equiprune.training.batches import TrainingBatch, groups
from equiprune.training.distributed import Processes, check_gradients_agree
from equiprune.training.divergence import diverged, not_finite, overflowing
from equiprune.training.feature_labels import FeatureTeacher
from equiprune.training.hessian_batches import ProbeSchedule
from equiprune.training.loading import Loader, Request, translated_worker_errors
from equiprune.training.objective import TERMS, Sum
from equiprune.training.observers import watching
from equiprune.training.optimisation import averaged, freeze, optimizer, set_learning_rate
from equiprune.training.recipe import Recipe, steps_of
from equiprune.training.run_folder import RunFolder, RunState
from equiprune.training.scan import digest, scan_dataset
from equiprune.training.signals import StoppedError, graceful_shutdown
from equiprune.training.validation import validation_sums

_LONGEST_UNSAVED = 300.0
"""Seconds of training that a killed process may cost, or one step where that takes longer."""


def train(
    potential: Potential,
    data: TrainingData | Sequence[Atoms],
    recipe: Recipe,
    run: str | Path,
    *,
    resources: Resources = ONE_CPU,
    watchers: Watchers = UNWATCHED,
) -> Potential:
    """Train a potential; the best model by validation loss, or the last one without validation structures.

    Args:
        potential: where to start; left unchanged.
        data: labelled structures to learn from, or those and others beside them.
        recipe: how.
        run: a directory, new or of an interrupted run of the same recipe.
        resources: hardware, processes and disk.
        watchers: who is told how far it is.

    Raises:
        StructureError: labels are missing.
        DivergedError: a prediction, gradient or step is not finite (the structures are named).
        TargetError: a pattern of frozen parameters matches nothing, patience without validation structures, a masked
            potential, fewer batches than processes, a weighted quantity that the model does not predict.
        OutputError: ``run`` is of another recipe, model or data, is trained by another process, or cannot be written.
        StoppedError: asked to stop (Ctrl-C, SIGTERM); the state is saved.
        GradientMismatchError: several processes do not compute the gradient that one would.
    """
    from lightning_fabric import Fabric  # slow to import, and only needed here

    data = data if isinstance(data, TrainingData) else TrainingData(data)
    _check_can_be_trained(potential, data, recipe)
    processes = Processes(resources.fabric or Fabric(accelerator="cpu", devices=1))
    digests, loader = _opened(potential, data, recipe, processes, resources, watchers)
    loop = _Loop(potential, recipe, Path(run), processes, loader, watchers.progress, data)
    with (
        graceful_shutdown(loop.ask_to_stop),
        processes.stopping_with_the_others(),
        translated_worker_errors(),
        closing(loader),
        loop.holding,
    ):
        loop.open(data.structures, digests, data.prints)
        with ExitStack() as ending:
            with processes.together():
                watched = watching(watchers.observers if processes.first else (), loop.folder)
                loop.observe = ending.enter_context(watched)
            loop.run_epochs(data.structures, data.validation)
        return loop.result(data.structures)


def _check_can_be_trained(potential: Potential, data: TrainingData, recipe: Recipe) -> None:
    if potential.taps:
        raise TargetError("A masked potential cannot be trained, its masks would be lost. Prune the model instead.")
    check_predicted(potential, recipe.objective.labelled())
    if (data.parent is None) == (recipe.objective.features.weight > 0):
        raise TargetError("Features are labels of a `parent`: give that model and a weight of features, or neither.")
    if recipe.patience is not None and not data.validation:
        raise TargetError("Patience waits for a better validation loss: give validation structures, or no patience.")


def _opened(
    potential: Potential,
    data: TrainingData,
    recipe: Recipe,
    processes: Processes,
    resources: Resources,
    watchers: Watchers,
) -> tuple[dict[str, str], Loader]:
    """Digests of the sets once all of them were looked at, and what builds their batches."""
    structures, replayed = data.structures, data.replay.structures
    sets = {"training": structures, "validation": data.validation, "replay": replayed}
    told = watchers.note if processes.first else lambda _: None
    with processes.together():
        given = {use: s for use, s in sets.items() if s or use == "training"}
        read = potential.architecture.global_inputs
        digests = scan_dataset(given, recipe.objective, potential.elements, told, watchers.looked_at, read)
        pool = Concatenation((structures, replayed), ("training", "replay")) if replayed else structures
        learnt = {"training": pool, "validation": data.validation}
        return digests, Loader.of(potential, learnt, resources.workers, resources.cache)


class _Loop:
    """One run: the module, its optimizer and where they are."""

    def __init__(
        self,
        potential: Potential,
        recipe: Recipe,
        run: Path,
        processes: Processes,
        loader: Loader,
        progress: Progress,
        data: TrainingData,
    ) -> None:
        self.start, self.recipe, self.folder, self.loader = potential, recipe, RunFolder(run), loader
        self.replay, self.processes, fabric = data.replay, processes, processes.fabric
        self.fabric, self.progress, self.stop = fabric, progress, False
        like = (potential.adapter, potential.checkpoint, potential.dtype, potential.head)
        own = Potential.create(*like, fabric.device, for_training=True)
        self.potential = own
        self.teacher = FeatureTeacher.of(data.parent, own, data.structures) if data.parent else None
        self.predictor = self._predictor(own)
        layouts = own.adapter.layouts(own.architecture)
        names = [n for n, p in own.module.named_parameters() if p.requires_grad and layouts[n].trainable]
        freeze(own.module, names, recipe.optimisation)
        made = optimizer(own.module, recipe.optimisation, layouts)
        self.module, self.optimizer = fabric.setup(self.predictor, made)
        self.state = RunState(average=self._weights())
        self.begun = self.saved = time.monotonic()
        self.learning_rate = 0.0
        self.holding = ExitStack()
        self.observe: Callable[[Mapping[str, Any]], None] = lambda row: None

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.potential.module.named_parameters()}

    def ask_to_stop(self) -> None:
        """After the step in progress."""
        self.stop = True

    def open(self, structures: Sequence[Atoms], digests: Mapping[str, str], fingerprints: Mapping[str, str]) -> None:
        """A new run directory, or the state of an interrupted run."""
        self.replayed = {"share": self.replay.share, "structures": digests["replay"]} if "replay" in digests else None
        own, processes = len(structures), self.processes.count
        self.fingerprints, self.steps = dict(fingerprints), self._steps(own)
        if not self.steps:
            raise TargetError(
                f"{own} structures in batches of {self.recipe.batch_size} are fewer batches than there are "
                f"processes ({processes}). Make batches smaller, or use fewer processes."
            )
        described = self._described(digests)
        with self.processes.together():
            begun = self.folder.begun(described)
        with self.processes.together():  # after all have looked whether there is a run
            if self.processes.first:
                if not begun:
                    self.folder.begin(described)
                self.holding.enter_context(self.folder.held())
        with self.processes.together():
            if stored := self.folder.state() if begun else None:
                self.module.load_state_dict(stored["module"])
                self.optimizer.load_state_dict(stored["optimizer"])
                self.state = RunState(**stored["state"]).on(self.fabric.device)
                self.progress(self.state.step)
            if self.processes.first:
                self.folder.rewind(self.state.recorded)

    def _described(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """Description that a run is compared by before it goes on."""
        return {
            "recipe": self.recipe.to_json(),
            "model": self.start.checkpoint.source,
            "model_sha256": self.start.checkpoint.sha256,
            "weights": digest(weight.cpu().numpy() for weight in self._weights().values()),
            "references": reference_steps(self.start) or None,
            "head": self.start.head,
            "dtype": dtype_name(self.start.dtype),
            "data": self.fingerprints,
            "structures": digests["training"],
            "validation": digests.get("validation", digest(())),
            "replay": self.replayed,
            "processes": self.processes.count,
        }

    def _steps(self, structures: int) -> int:
        return steps_of(self.recipe, structures, self.replay.per_epoch(structures), self.processes.count)

    def save(self) -> None:
        """Write the state in one step."""
        state = replace(self.state, seconds=self.state.seconds + time.monotonic() - self.begun)
        module, optimizer = self.module.state_dict(), self.optimizer.state_dict()
        self.folder.save({"module": module, "optimizer": optimizer, "state": vars(state)})
        self.saved = time.monotonic()

    def run_epochs(self, structures: Sequence[Atoms], validation: Sequence[Atoms]) -> None:
        """Train until the last epoch, or until patience runs out."""
        recipe, state = self.recipe, self.state
        if self.processes.count > 1:
            [data] = self._training_batches(self._groups(structures, 0)[:1], 0)
            check_gradients_agree(
                self.fabric, self.module, self.predictor, data.inputs, lambda p: self._loss(p, data)[0]
            )
        while state.epoch < recipe.epochs and not self._out_of_patience():
            batches = self._groups(structures, state.epoch)
            for data in self._training_batches(batches[state.position :], state.epoch):
                losses = self._step(data)
                state.position += 1
                ended = state.position == len(batches)
                validated = self._validate(validation) if ended and validation else {}
                [stop] = self.processes.totals([self.stop])  # all processes stop after the same step
                with self.processes.together():
                    self._end_step(losses, validated, ended=ended, stop=bool(stop))
                if stop:
                    message = f"Interrupted after step {state.step}; the same command goes on from there."
                    self.processes.end(StoppedError(message))

    def _end_step(
        self, losses: Mapping[str, float], validated: Mapping[str, float], *, ended: bool, stop: bool
    ) -> None:
        """Write and save what is due after a step; only the first process writes."""
        state = self.state
        if self.processes.first:
            self._record(losses, validated)
        if ended:
            state.epoch, state.position = state.epoch + 1, 0
        if self.processes.first and (stop or ended or self._due()):
            self.save()
        self.progress(1)

    def _due(self) -> bool:
        """True if so much would be lost by a kill that it is time to save."""
        return self.state.step % self.recipe.save_every == 0 or time.monotonic() - self.saved > _LONGEST_UNSAVED

    def _out_of_patience(self) -> bool:
        return self.recipe.patience is not None and self.state.waited > self.recipe.patience

    def _groups(self, structures: Sequence[Atoms], epoch: int) -> list[list[int]]:
        rank, ranks, seed = self.fabric.global_rank, self.processes.count, self.recipe.seed
        replayed = self.replay.drawn(len(structures), epoch, seed)
        size = self.recipe.batch_size
        return groups(len(structures), size, epoch, seed, replayed=replayed, rank=rank, ranks=ranks)

    def _batches(self, use: str, groups: Sequence[Sequence[int]], epoch: int = 0) -> Iterator[TrainingBatch]:
        """Batches of these indices, with the Hessian products whose turn it is in an epoch, if they are weighed."""
        objective = self.recipe.objective
        weighed = "hessian" in objective.weighted()
        probes = ProbeSchedule(objective.hessian_samples, self.recipe.seed, epoch) if weighed else None
        loaded = self.loader([Request(use, group, probes) for group in groups])
        moved = (data.to(self.potential.device) for data in loaded)
        return (self.teacher.taught(data, objective.features) if self.teacher else data for data in moved)

    def _predictor(self, potential: Potential) -> Predictor:
        shown = tuple(self.teacher.columns) if self.teacher else ()
        return potential.for_training(shown, derived=self.recipe.objective.derived)

    def _training_batches(self, groups: Sequence[Sequence[int]], epoch: int) -> Iterator[TrainingBatch]:
        """As many for every process, each once all have theirs."""
        batches = self._batches("training", groups, epoch)
        for _ in groups:
            with self.processes.together():
                data = next(batches)
            yield data

    def _step(self, data: TrainingBatch) -> dict[str, float]:
        """One optimizer step; the weighted mean loss of each quantity, over all processes."""
        optimisation, state = self.recipe.optimisation, self.state
        self.learning_rate = set_learning_rate(self.optimizer, optimisation, state.step, self.steps, state.validations)
        self.module.train()
        self.optimizer.zero_grad()
        loss, losses = self._loss(self.module(*data.inputs), data)
        self.fabric.backward(loss)
        longest = math.inf if optimisation.clip is None else optimisation.clip
        norm = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=longest, error_if_nonfinite=False)
        if norm is None or not norm.isfinite():
            raise diverged(f"the gradient for {data.called()} is")
        with overflowing(self.learning_rate):
            self.optimizer.step()
        state.step += 1
        if optimisation.average is not None:
            state.average = averaged(state.average, self.potential.module, optimisation.average, state.step)
        means = torch.stack([loss.detach() for loss in losses.values()])
        if self.processes.count > 1:
            self.fabric.all_reduce(means)  # in place
        return dict(zip(losses, means.tolist(), strict=True))

    def _loss(self, predicted: Mapping[str, Tensor], data: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its part in each quantity."""
        sums = self.recipe.objective.sums(predicted, data.targets, data.graph)
        losses = self._means(sums, not_finite(predicted, data))
        # 0 * energy: every weight takes part, as DDP expects, also those that no force depends on.
        return sum(losses.values(), 0 * predicted["energy"].sum()), losses

    def _means(self, sums: Mapping[str, Sum], error: EquipruneError | None) -> dict[str, Tensor]:
        """Means over the labels of all processes; DDP averages gradients, so each process counts its share in full."""
        ranks = self.processes.count
        counts = self.processes.totals([part.count for part in sums.values()], error)
        return {name: sums[name].total * ranks / max(count, 1) for name, count in zip(sums, counts, strict=True)}

    def _validate(self, validation: Sequence[Atoms]) -> dict[str, float]:
        """The objective on the validation structures, with the averaged weights; remember them when they are best."""
        weights, size, numbers = self._final_weights(), self.recipe.batch_size, range(len(validation))
        with self.processes.together():
            load_weights(self._second.module, {**self.start.checkpoint.weights, **weights})
            batches = [numbers[start : start + size] for start in numbers[::size]]
            own = self._batches("validation", batches[self.fabric.global_rank :: self.processes.count])
            totals, counts = validation_sums(self._predictor(self._second).eval(), own, self.recipe.objective)
        totals, counts = self.processes.added(totals), self.processes.totals(counts)
        found = zip(TERMS, totals, counts, strict=True)
        losses = {name: total / count for name, total, count in found if count}
        self.state.validations.append(sum(losses.values()))
        if self.state.waited == 0:
            self.state.best = weights
        return losses

    def _final_weights(self) -> dict[str, Tensor]:
        return dict(self.state.average) if self.recipe.optimisation.average is not None else self._weights()

    @cached_property
    def _second(self) -> Potential:
        """A module for weights that are not those in training; kept, because building one can take seconds."""
        return self._with({})

    def _with(self, weights: Mapping[str, Tensor]) -> Potential:
        checkpoint = replace(self.start.checkpoint, weights={**self.start.checkpoint.weights, **weights})
        potential = self.potential
        return Potential.create(potential.adapter, checkpoint, potential.dtype, potential.head, potential.device)

    def _record(self, losses: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """A line of the learning curve."""
        state, recorded = self.state, self.recipe.objective.recorded()
        seconds = f"{state.seconds + time.monotonic() - self.begun:.2f}"
        row = {"step": state.step, "epoch": state.epoch, "seconds": seconds, "learning_rate": self.learning_rate}
        row |= {f"train_{quantity}": losses.get(quantity, "") for quantity in recorded}
        row |= {f"validation_{quantity}": validation.get(quantity, "") for quantity in recorded}
        state.recorded = self.folder.record(row)
        self.observe(row)

    def result(self, structures: Sequence[Atoms]) -> Potential:
        """The best model, or the last one without validation: written, and with validation the last one as well."""
        with self.processes.together():
            last = self._trained(self._final_weights())
            if not self.state.best:  # then nothing has seen yet what the weights after the last step predict
                self._check_finite(last, self._groups(structures, 0)[0])
                self._write(last, self.folder.model)
                return last
            best = self._trained(self.state.best)
            self._write(last, self.folder.last)
            self._write(best, self.folder.model)
            return best

    def _check_finite(self, trained: Potential, group: Sequence[int]) -> None:
        [data] = self._batches("training", [group])
        if error := not_finite(self._predictor(trained).eval()(*data.inputs), data):
            raise error

    def _write(self, trained: Potential, path: Path) -> None:
        if self.processes.first and not path.exists():
            save(trained, path)

    def _trained(self, weights: Mapping[str, Tensor]) -> Potential:
        """The model of these weights with the training in its history."""
        step = Trained(self.recipe.to_json(), self.fingerprints, self.state.step, self.replayed)
        trained = self._with({name: weight.cpu() for name, weight in weights.items()})
        after = self.start.checkpoint.after(step, trained.checkpoint.weights)
        return replace(trained, checkpoint=after)
