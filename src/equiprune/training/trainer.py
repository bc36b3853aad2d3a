"""The training loop, on Lightning Fabric: one process or many, stopped and resumed at any step.

A run is a directory. ``recipe.json`` holds every choice and the fingerprints of model and data; a run whose recipe
differs is refused, not resumed. ``state.pt`` is the whole state after the last saved step; on a CPU a resumed run ends
in the same bits as one that was never stopped. ``curve.csv`` is the learning curve: a line for every step, with the
validation losses on the last one of an epoch. ``model`` is the result; where validation chose it, ``last`` is the model
after the last step.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters import fill
from equiprune.checkpoint import save
from equiprune.errors import EquipruneError, StructureError, TargetError
from equiprune.potential import Potential
from equiprune.storage import Progress, silent
from equiprune.structure_files import Concatenation
from equiprune.training.data import TrainingBatch, digest, groups, survey
from equiprune.training.loading import Loader, Request, naming_lost_workers
from equiprune.training.objective import QUANTITIES, Objective, Sum, objective_to_json
from equiprune.training.observers import Observer, watching
from equiprune.training.optimisation import (
    Optimisation,
    averaged,
    freeze,
    optimisation_to_json,
    optimizer,
    set_learning_rate,
)
from equiprune.training.parity import check_parity
from equiprune.training.predictor import Predictor
from equiprune.training.references import reference_steps
from equiprune.training.replay import NO_REPLAY, Replay
from equiprune.training.run_folder import RunFolder
from equiprune.training.second_derivatives import Turn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        objective: what is minimised.
        optimisation: optimizer and schedule.
        epochs: passes over the structures.
        batch_size: structures per batch and process.
        seed: of the order of the structures.
        patience: stop after more epochs than this without a better validation loss; None never stops early.
        save_every: steps between two saves of the state, besides one after every epoch.
    """

    objective: Objective
    optimisation: Optimisation = field(default_factory=Optimisation)
    epochs: int = 10
    batch_size: int = 4
    seed: int = 0
    patience: int | None = None
    save_every: int = 500

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("save_every", 1), ("patience", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise TargetError(f"The {name.replace('_', ' ')} {value} is not possible: give {least} or more.")

    def to_json(self) -> dict[str, Any]:
        """Every choice, as JSON."""
        return {
            "objective": objective_to_json(self.objective),
            "optimisation": optimisation_to_json(self.optimisation),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "patience": self.patience,
        }


@dataclass
class _State:
    """What changes while training. ``average`` and ``best`` are weights by name."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    """Batches of the epoch that are done."""
    validations: list[float] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    recorded: int = 0
    """Bytes of the learning curve up to here."""

    @property
    def waited(self) -> int:
        """Validations since the best one."""
        return len(self.validations) - 1 - self.validations.index(min(self.validations)) if self.validations else 0


class StoppedError(EquipruneError):
    """Training was asked to stop; the state is saved, and the same command goes on."""


def train(
    potential: Potential,
    structures: Sequence[Atoms],
    recipe: Recipe,
    run: str | Path,
    *,
    validation: Sequence[Atoms] = (),
    replay: Replay = NO_REPLAY,
    fingerprints: Mapping[str, str] | None = None,
    fabric: Fabric | None = None,
    workers: int = 0,
    cache: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
    observers: Sequence[Observer] = (),
) -> Potential:
    """Train a potential; the best model by validation loss, or the last one without validation structures.

    Args:
        potential: where to start; left unchanged.
        structures: with labels for every quantity that the objective weighs.
        recipe: how.
        run: a directory, new or of an interrupted run of the same recipe.
        validation: labelled structures that only choose the best model.
        replay: a second labelled set, some of which is seen in every epoch.
        fingerprints: of the data, recorded and compared when resuming.
        fabric: devices and processes; one CPU process unless given.
        workers: new processes that build batches (so call this below ``if __name__ == "__main__":``); 0 for none.
        cache: a folder of neighbour lists, which other runs may share; None finds them anew every time.
        note: told which labels the structures have.
        progress: called with 1 after every step, and first with the steps that an interrupted run has behind it.
        observers: told about every line of the learning curve, also those of before an interruption.

    Raises:
        StructureError: labels are missing, or a prediction or gradient is not finite (the structures are named).
        TargetError: a pattern of frozen parameters matches nothing, patience without validation structures, a masked
            potential, fewer batches than processes.
        OutputError: ``run`` is of another recipe, model or data, or cannot be written.
        StoppedError: asked to stop (Ctrl-C, SIGTERM); the state is saved.
        ParityError: several processes do not compute the gradient that one would.
    """
    from lightning_fabric import Fabric  # slow to import, and only needed here

    if potential.taps:
        raise TargetError("A masked potential cannot be trained, its masks would be lost. Prune the model instead.")
    if recipe.patience is not None and not validation:
        raise TargetError("Patience waits for a better validation loss: give validation structures, or no patience.")
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    sets = {"training": structures, "validation": validation, "replay": replay.structures}
    told = note if fabric.is_global_zero else lambda _: None
    digests = survey(
        {use: s for use, s in sets.items() if s or use == "training"}, recipe.objective, potential.elements, told
    )
    pool = Concatenation((structures, replay.structures)) if replay.structures else structures
    loader = Loader.of(potential, {"training": pool, "validation": validation}, workers, cache)
    loop = _Loop(potential, recipe, Path(run), fabric, loader, progress, replay)
    with _stop_politely(loop), naming_lost_workers():
        loop.open(structures, digests, fingerprints or {})
        with watching(observers if loop.fabric.is_global_zero else (), loop.folder) as loop.observe:
            loop.run_epochs(structures, validation)
    return loop.result()


class _Loop:
    """One run: the module, its optimizer and where they are."""

    def __init__(
        self,
        potential: Potential,
        recipe: Recipe,
        run: Path,
        fabric: Fabric,
        loader: Loader,
        progress: Progress,
        replay: Replay,
    ) -> None:
        self.start, self.recipe, self.folder, self.loader = potential, recipe, RunFolder(run), loader
        self.replay = replay
        self.fabric, self.progress, self.stop = fabric, progress, False
        own = Potential.create(potential.adapter, potential.checkpoint, potential.dtype, potential.head, fabric.device)
        self.potential = own
        self.predictor = Predictor(own)
        layouts = own.adapter.weight_layouts(own.architecture)
        names = [n for n, p in own.module.named_parameters() if p.requires_grad and layouts[n].trainable]
        freeze(own.module, names, recipe.optimisation)
        made = optimizer(own.module, recipe.optimisation, layouts)
        self.module, self.optimizer = fabric.setup(self.predictor, made)
        self.state = _State(average=self._weights())
        self.begun, self.learning_rate = time.monotonic(), 0.0
        self.observe: Callable[[Mapping[str, Any]], None] = lambda row: None

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.potential.module.named_parameters()}

    def open(self, structures: Sequence[Atoms], digests: Mapping[str, str], fingerprints: Mapping[str, str]) -> None:
        """A new run directory, or the state of an interrupted run."""
        self.replayed = {"share": self.replay.share, "structures": digests["replay"]} if "replay" in digests else None
        self.fingerprints, self.rounds = dict(fingerprints), len(self._groups(structures, 0))
        if not self.rounds:
            raise TargetError(
                f"{len(structures)} structures in batches of {self.recipe.batch_size} are fewer batches than there are "
                f"processes ({self.fabric.world_size}). Make batches smaller, or use fewer processes."
            )
        described = {
            "recipe": self.recipe.to_json(),
            "model": self.start.checkpoint.source,
            "model_sha256": self.start.checkpoint.sha256,
            "weights": digest(weight.cpu().numpy() for weight in self._weights().values()),
            "references": reference_steps(self.start) or None,
            "head": self.start.head,
            "dtype": str(self.start.dtype),
            "data": self.fingerprints,
            "structures": digests["training"],
            "validation": digests.get("validation", digest(())),
            "replay": self.replayed,
            "processes": self.fabric.world_size,
        }
        begun = self.folder.begun(described)
        self.fabric.barrier()
        if stored := self.folder.state(self.fabric.device) if begun else None:
            self.module.load_state_dict(stored["module"])
            self.optimizer.load_state_dict(stored["optimizer"])
            self.state = _State(**stored["state"])
            self.progress(self.state.step)
        if self.fabric.is_global_zero:
            self.folder.rewind(self.state.recorded) if begun else self.folder.begin(described)
        self.fabric.barrier()

    def save(self) -> None:
        """Write the state in one step; only the first process does."""
        if not self.fabric.is_global_zero:
            return
        state = replace(self.state, seconds=self.state.seconds + time.monotonic() - self.begun)
        module, optimizer = self.module.state_dict(), self.optimizer.state_dict()
        self.folder.save({"module": module, "optimizer": optimizer, "state": vars(state)})

    def run_epochs(self, structures: Sequence[Atoms], validation: Sequence[Atoms]) -> None:
        """Train until the last epoch, or until patience runs out."""
        recipe, state, steps = self.recipe, self.state, self.recipe.epochs * self.rounds
        if self.fabric.world_size > 1:
            [data] = self._batches("training", self._groups(structures, 0)[:1])
            check_parity(self.fabric, self.module, self.predictor, data.inputs, lambda p: self._loss(p, data)[0])
        while state.epoch < recipe.epochs and not self._out_of_patience():
            batches = self._groups(structures, state.epoch)
            for data in self._batches("training", batches[state.position :], state.epoch):
                losses = self._step(data, steps)
                state.position += 1
                ended = state.position == len(batches)
                self._record(losses, self._validate(validation) if ended and validation else {})
                if ended:
                    state.epoch, state.position = state.epoch + 1, 0
                [stop] = self._totals([self.stop])  # all processes stop after the same step
                if stop or ended or state.step % recipe.save_every == 0:
                    self.save()
                self.progress(1)
                if stop:
                    raise StoppedError(f"Interrupted after step {state.step}; the same command goes on from there.")

    def _out_of_patience(self) -> bool:
        return self.recipe.patience is not None and self.state.waited > self.recipe.patience

    def _groups(self, structures: Sequence[Atoms], epoch: int) -> list[list[int]]:
        rank, ranks, seed = self.fabric.global_rank, self.fabric.world_size, self.recipe.seed
        replayed = self.replay.drawn(len(structures), epoch, seed)
        size = self.recipe.batch_size
        return groups(len(structures), size, epoch, seed, replayed=replayed, rank=rank, ranks=ranks)

    def _batches(self, use: str, groups: Sequence[Sequence[int]], epoch: int = 0) -> Iterator[TrainingBatch]:
        """Of these indices, with the Hessian products whose turn it is in an epoch, if the objective weighs them."""
        objective, seed = self.recipe.objective, self.recipe.seed
        weighed = "hessian" in objective.weighted()
        requests = [
            Request(use, group, [Turn(objective.hessian_samples, seed, i, epoch) for i in group] if weighed else ())
            for group in groups
        ]
        return (data.to(self.potential.device) for data in self.loader(requests))

    def _step(self, data: TrainingBatch, steps: int) -> dict[str, float]:
        """One optimizer step; the weighted mean loss of each quantity, over all processes."""
        optimisation, state = self.recipe.optimisation, self.state
        self.learning_rate = set_learning_rate(self.optimizer, optimisation, state.step, steps, state.validations)
        self.module.train()
        self.optimizer.zero_grad()
        loss, losses = self._loss(self.module(*data.inputs), data)
        self.fabric.backward(loss)
        longest = math.inf if optimisation.clip is None else optimisation.clip
        norm = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=longest, error_if_nonfinite=False)
        if norm is None or not norm.isfinite():
            raise _diverged(f"the gradient for {', '.join(data.names)} is")
        self.optimizer.step()
        state.step += 1
        if optimisation.average is not None:
            state.average = averaged(state.average, self.potential.module, optimisation.average, state.step)
        means = torch.stack([loss.detach() for loss in losses.values()])
        if self.fabric.world_size > 1:
            self.fabric.all_reduce(means)  # in place
        return dict(zip(losses, means.tolist(), strict=True))

    def _loss(self, predicted: Mapping[str, Tensor], data: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, and its part in each quantity."""
        _check_finite(predicted, data)
        losses = self._means(self.recipe.objective.sums(predicted, data.targets, data.graph))
        # 0 * energy: every weight takes part, as DDP expects, also those that no force depends on.
        return sum(losses.values(), 0 * predicted["energy"].sum()), losses

    def _means(self, sums: Mapping[str, Sum]) -> dict[str, Tensor]:
        """Means over the labels of all processes; DDP averages gradients, so each process counts its share in full."""
        ranks = self.fabric.world_size
        counts = self._totals([part.count for part in sums.values()])
        return {name: sums[name].total * ranks / max(count, 1) for name, count in zip(sums, counts, strict=True)}

    def _totals(self, counts: Sequence[int]) -> list[int]:
        """Sums over all processes."""
        totals = torch.tensor([int(count) for count in counts], device=self.fabric.device)
        if self.fabric.world_size > 1:
            self.fabric.all_reduce(totals, reduce_op="sum")  # in place
        return totals.tolist()

    def _validate(self, validation: Sequence[Atoms]) -> dict[str, float]:
        """The objective on the validation structures, with the averaged weights; remember them when they are best."""
        weights, model = self._final_weights(), self._second
        fill(model.module, {**self.start.checkpoint.weights, **weights})
        predictor = Predictor(model).eval()
        totals, counts = dict.fromkeys(QUANTITIES, 0.0), dict.fromkeys(QUANTITIES, 0)
        size = self.recipe.batch_size
        numbers = range(len(validation))
        for data in self._batches("validation", [numbers[start : start + size] for start in numbers[::size]]):
            predicted = predictor(*data.inputs)
            _check_finite(predicted, data)
            for name, part in self.recipe.objective.sums(predicted, data.targets, data.graph).items():
                totals[name] += float(part.total.detach())
                counts[name] += part.count
        losses = {name: totals[name] / counts[name] for name in totals if counts[name]}
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
        if not self.fabric.is_global_zero:
            return
        state, recorded = self.state, self.recipe.objective.recorded()
        seconds = f"{state.seconds + time.monotonic() - self.begun:.2f}"
        row = {"step": state.step, "epoch": state.epoch, "seconds": seconds, "learning_rate": self.learning_rate}
        row |= {f"train_{quantity}": losses.get(quantity, "") for quantity in recorded}
        row |= {f"validation_{quantity}": validation.get(quantity, "") for quantity in recorded}
        state.recorded = self.folder.record(row)
        self.observe(row)

    def result(self) -> Potential:
        """The best model (the last one without validation); it and the last are written, with the training recorded."""
        if self.state.best:
            self._recorded(self._final_weights(), self.folder.last)
        return self._recorded(self.state.best or self._final_weights(), self.folder.model)

    def _recorded(self, weights: Mapping[str, Tensor], path: Path) -> Potential:
        """The model of these weights with the training in its history, written unless it is there."""
        step = {
            "step": "train",
            "parent": self.start.checkpoint.source,
            "parent_sha256": self.start.checkpoint.sha256,
            "recipe": self.recipe.to_json(),
            "data": self.fingerprints,
            "steps": self.state.step,
            "replay": self.replayed,
        }
        trained = self._with({name: weight.cpu() for name, weight in weights.items()})
        history = (*self.start.checkpoint.history, step)
        model = replace(trained, checkpoint=replace(trained.checkpoint, sha256="", history=history))
        if self.fabric.is_global_zero and not path.exists():
            save(model, path)
        return model


def _check_finite(predicted: Mapping[str, Tensor], data: TrainingBatch) -> None:
    """Raise `StructureError` naming the structures whose energy, forces or Hessian products are not finite."""
    bad_atoms = ~(predicted["forces"].isfinite().all(-1) & predicted["hessian"].isfinite().all(-1).all(0))
    bad = set(data.graph.structure_of_atom[bad_atoms].tolist())
    bad |= set((~predicted["energy"].isfinite()).nonzero().flatten().tolist())
    if bad:
        raise _diverged(f"the predictions for {', '.join(data.names[i] for i in sorted(bad))} are")


def _diverged(what: str) -> StructureError:
    return StructureError(
        f"Training has diverged: {what} not finite. Lower the learning rate, clip gradients, or look at those "
        "structures."
    )


@contextmanager
def _stop_politely(loop: _Loop) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the run after the step in progress, with its state saved."""

    def ask(_signal: int, _frame: FrameType | None) -> None:
        loop.stop = True

    if threading.current_thread() is not threading.main_thread():  # Python lets no other set handlers
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
