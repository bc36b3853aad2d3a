"""The training loop, on Lightning Fabric: one process or many, stopped and resumed at any step.

A run is a directory. ``recipe.json`` holds every choice and the fingerprints of model and data; a run whose recipe
differs is refused, not resumed. ``state.pt`` is the whole state after the last saved step; on a CPU a resumed run ends
in the same bits as one that was never stopped. ``curve.csv`` is the learning curve. ``best`` and ``last`` are models.
"""

from __future__ import annotations

import csv
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from ase import Atoms
from lightning_fabric import Fabric
from torch import Tensor

from equiprune.checkpoint import save
from equiprune.errors import EquipruneError, OutputError, StructureError
from equiprune.potential import Potential
from equiprune.storage import Progress, read_json, replacing, silent, write_json
from equiprune.training.data import TrainingBatch, batch, check_labels, groups
from equiprune.training.objective import QUANTITIES, Objective, Sum, objective_to_json
from equiprune.training.optimisation import Optimisation, averaged, freeze, optimizer, set_learning_rate
from equiprune.training.predictor import Predictor


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        objective: what is minimised.
        optimisation: optimizer and schedule.
        epochs: passes over the structures.
        batch_size: structures per batch and process.
        seed: of the order of the structures.
        patience: epochs without a better validation loss before stopping early; None never stops early.
        save_every: steps between two saves of the state, besides one after every epoch.
    """

    objective: Objective
    optimisation: Optimisation = field(default_factory=Optimisation)
    epochs: int = 10
    batch_size: int = 4
    seed: int = 0
    patience: int | None = None
    save_every: int = 500

    def to_json(self) -> dict[str, Any]:
        """Every choice, as JSON."""
        return {
            "objective": objective_to_json(self.objective),
            "optimisation": repr(self.optimisation),
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
    run: Path,
    *,
    validation: Sequence[Atoms] = (),
    fingerprints: Mapping[str, str] | None = None,
    fabric: Fabric | None = None,
    progress: Progress = silent,
) -> Potential:
    """Train a potential; the best model by validation loss, or the last one without validation structures.

    Args:
        potential: where to start; left unchanged.
        structures: with labels for every quantity that the objective weighs.
        recipe: how.
        run: a directory, new or of an interrupted run of the same recipe.
        validation: labelled structures that only choose the best model.
        fingerprints: of the data, recorded and compared when resuming.
        fabric: devices and processes; one CPU process unless given.
        progress: called with 1 after every step.

    Raises:
        StructureError: labels are missing, or a prediction is not finite (the structures are named).
        OutputError: ``run`` is of another recipe, model or data.
        StoppedError: asked to stop (Ctrl-C, SIGTERM); the state is saved.
    """
    check_labels(structures, recipe.objective, potential.elements)
    if validation:
        check_labels(validation, recipe.objective, potential.elements)
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    loop = _Loop(potential, recipe, run, fabric, progress)
    loop.open(fingerprints or {})
    with _stop_politely(loop):
        loop.run_epochs(structures, validation)
    return loop.result()


class _Loop:
    """One run: the module, its optimizer and where they are."""

    def __init__(self, potential: Potential, recipe: Recipe, run: Path, fabric: Fabric, progress: Progress) -> None:
        self.start, self.recipe, self.folder = potential, recipe, run
        self.fabric, self.progress, self.stop = fabric, progress, False
        own = Potential.create(potential.adapter, potential.checkpoint, potential.dtype, potential.head, fabric.device)
        self.potential = own
        predictor = Predictor(own)
        trained = [f"module.{name}" for name, p in own.module.named_parameters() if p.requires_grad]
        layouts = own.adapter.weight_layouts(own.architecture)
        names = [n for n in (t.removeprefix("module.") for t in trained) if layouts[n].trainable]
        freeze(own.module, names, recipe.optimisation)
        self.module, self.optimizer = fabric.setup(predictor, optimizer(own.module, recipe.optimisation))
        self.state = _State(average=self._weights(), best={})
        self.begun = time.monotonic()

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.potential.module.named_parameters()}

    def open(self, fingerprints: Mapping[str, str]) -> None:
        """A new run directory, or the state of an interrupted run."""
        described = {
            "recipe": self.recipe.to_json(),
            "model_sha256": self.start.checkpoint.sha256,
            "model": self.start.checkpoint.source,
            "dtype": str(self.start.dtype),
            "data": dict(fingerprints),
            "processes": self.fabric.world_size,
        }
        path = self.folder / "recipe.json"
        if path.exists():
            _check_same(read_json(path, "recipe"), described, self.folder)
            if (self.folder / "state.pt").exists():
                self._load()
        elif self.fabric.is_global_zero:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"'{self.folder}' cannot be written ({error.strerror}).") from error
            write_json(path, described)
        self.fabric.barrier()

    def _load(self) -> None:
        stored = torch.load(self.folder / "state.pt", map_location=self.fabric.device, weights_only=True)
        self.module.load_state_dict(stored["module"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.state = _State(**stored["state"])

    def save(self) -> None:
        """Write the state in one step; only the first process does."""
        if not self.fabric.is_global_zero:
            return
        state = replace(self.state, seconds=self.state.seconds + time.monotonic() - self.begun)
        content = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": vars(state),
        }
        buffer = BytesIO()
        torch.save(content, buffer)
        with replacing(self.folder / "state.pt") as temporary:
            temporary.write_bytes(buffer.getvalue())

    def run_epochs(self, structures: Sequence[Atoms], validation: Sequence[Atoms]) -> None:
        """Train until the last epoch, or until patience runs out."""
        recipe, state = self.recipe, self.state
        steps = recipe.epochs * len(self._groups(structures, 0))
        while state.epoch < recipe.epochs:
            for group in self._groups(structures, state.epoch)[state.position :]:
                sums = self._step(batch(self.potential, [structures[i] for i in group]), steps)
                state.position += 1
                self._record(sums, {})
                self.progress(1)
                if self.stop or state.step % recipe.save_every == 0:
                    self.save()
                if self.stop:
                    raise StoppedError(f"Interrupted after step {state.step}; the same command goes on from there.")
            state.epoch, state.position = state.epoch + 1, 0
            if validation:
                self._validate(validation)
            self.save()
            if validation and recipe.patience is not None and state.waited > recipe.patience:
                return

    def _groups(self, structures: Sequence[Atoms], epoch: int) -> list[list[int]]:
        rank, ranks = self.fabric.global_rank, self.fabric.world_size
        return groups(len(structures), self.recipe.batch_size, epoch, self.recipe.seed, rank=rank, ranks=ranks)

    def _step(self, data: TrainingBatch, steps: int) -> dict[str, float]:
        """One optimizer step; the weighted mean loss of each quantity."""
        optimisation, state = self.recipe.optimisation, self.state
        set_learning_rate(self.optimizer, optimisation, state.step, steps, state.validations)
        self.module.train()
        self.optimizer.zero_grad()
        predicted = self.module(data.graph)
        _check_finite(predicted, data)
        losses = self._means(self.recipe.objective.sums(predicted, data.targets, data.graph))
        self.fabric.backward(sum(losses.values(), torch.zeros_like(predicted["energy"].sum())))
        if optimisation.clip is not None:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=optimisation.clip)
        self.optimizer.step()
        state.step += 1
        if optimisation.average is not None:
            state.average = averaged(state.average, self.potential.module, optimisation.average, state.step)
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _means(self, sums: Mapping[str, Sum]) -> dict[str, Tensor]:
        """Means over the labels of all processes; DDP averages gradients, so each process counts its share in full."""
        ranks = self.fabric.world_size
        means = {}
        for name, part in sums.items():
            count = part.count
            if ranks > 1:
                counts = self.fabric.all_reduce(torch.tensor(float(count), device=self.fabric.device), reduce_op="sum")
                assert isinstance(counts, Tensor)
                count = int(counts)
            means[name] = part.total * ranks / max(count, 1)
        return means

    def _validate(self, validation: Sequence[Atoms]) -> None:
        """The objective on the validation structures, with the averaged weights; remember them when they are best."""
        weights = self._final_weights()
        model = self._with(weights)
        predictor = Predictor(model).eval()
        totals, counts = dict.fromkeys(QUANTITIES, 0.0), dict.fromkeys(QUANTITIES, 0)
        size = self.recipe.batch_size
        for start in range(0, len(validation), size):
            data = batch(model, validation[start : start + size])
            for name, part in self.recipe.objective.sums(predictor(data.graph), data.targets, data.graph).items():
                totals[name] += float(part.total.detach())
                counts[name] += part.count
        losses = {name: totals[name] / counts[name] for name in totals if counts[name]}
        self.state.validations.append(sum(losses.values()))
        if self.state.waited == 0:
            self.state.best = weights
        self._record({}, losses)

    def _final_weights(self) -> dict[str, Tensor]:
        return dict(self.state.average) if self.recipe.optimisation.average is not None else self._weights()

    def _with(self, weights: Mapping[str, Tensor]) -> Potential:
        checkpoint = replace(self.start.checkpoint, weights={**self.start.checkpoint.weights, **weights})
        potential = self.potential
        return Potential.create(potential.adapter, checkpoint, potential.dtype, potential.head, potential.device)

    def _record(self, losses: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """A line of the learning curve."""
        if not self.fabric.is_global_zero:
            return
        path = self.folder / "curve.csv"
        columns = [*(f"train_{q}" for q in QUANTITIES), *(f"validation_{q}" for q in QUANTITIES)]
        values = {f"train_{q}": v for q, v in losses.items()} | {f"validation_{q}": v for q, v in validation.items()}
        new = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(["step", "epoch", "seconds", "learning_rate", *columns])
            seconds = self.state.seconds + time.monotonic() - self.begun
            rate = self.optimizer.param_groups[0]["lr"]
            row = [self.state.step, self.state.epoch, f"{seconds:.2f}", rate]
            writer.writerow([*row, *(values.get(column, "") for column in columns)])

    def result(self) -> Potential:
        """The best model (the last one without validation), with the training recorded in its history."""
        weights = self.state.best or self._final_weights()
        step = {
            "step": "train",
            "parent": self.start.checkpoint.source,
            "parent_sha256": self.start.checkpoint.sha256,
            "recipe": self.recipe.to_json(),
            "steps": self.state.step,
        }
        trained = self._with({name: weight.cpu() for name, weight in weights.items()})
        history = (*self.start.checkpoint.history, step)
        model = replace(trained, checkpoint=replace(trained.checkpoint, sha256="", history=history))
        if self.fabric.is_global_zero and not (self.folder / "model").exists():
            save(model, self.folder / "model")
        return model


def _check_same(stored: Any, described: Mapping[str, Any], folder: Path) -> None:
    if stored != described:
        different = [key for key in described if not isinstance(stored, dict) or stored.get(key) != described[key]]
        raise OutputError(
            f"'{folder}' is a run with other settings ({', '.join(different)} differ). Repeat the command it belongs "
            "to, or choose another folder."
        )


def _check_finite(predicted: Mapping[str, Tensor], data: TrainingBatch) -> None:
    """Raise `StructureError` naming the structures whose energy or forces are not finite."""
    bad_atoms = ~predicted["forces"].isfinite().all(-1)
    bad = set(data.graph.structure_of_atom[bad_atoms].tolist())
    bad |= set((~predicted["energy"].isfinite()).nonzero().flatten().tolist())
    if bad:
        raise StructureError(
            f"Training has diverged: the predictions for {', '.join(data.names[i] for i in sorted(bad))} are not "
            "finite. Lower the learning rate, clip gradients, or look at those structures."
        )


@contextmanager
def _stop_politely(loop: _Loop) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the run after the step in progress, with its state saved."""

    def ask(_signal: int, _frame: FrameType | None) -> None:
        loop.stop = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
