"""Flags of ``label`` and ``train`` as frozen values, and their way to the values of the API."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from ase import Atoms
from cyclopts import Parameter

from equiprune.errors import TargetError, closest
from equiprune.flags import NotNegative, Patterns, Positive, Switch, panel
from equiprune.hessian import Probes, RandomProbes, Rows
from equiprune.labels import LabelKeys
from equiprune.training.curve_figure import CurvePicture
from equiprune.training.labelling import Augmentation, Dynamics
from equiprune.training.objective import Objective
from equiprune.training.observers import Observer, TensorBoard, Wandb
from equiprune.training.optimisation import Constant, Cosine, Linear, Plateau, Schedule
from equiprune.training.recipes import PRESETS, Recipe
from equiprune.training.references import KeepReferences, References, RefitReferences, read_references
from equiprune.training.replay import Replay

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ReferencesName = Literal["keep", "refit"]
ScaleName = Literal["keep", "rms-forces"]
PresetName = Literal["mace-universal", "mace-weighted", "sevennet", "escn"]
DeviceName = Literal["cpu", "cuda"]
ScheduleName = Literal["constant", "linear", "cosine", "plateau"]
_SCHEDULES: Mapping[str, Schedule] = {
    "constant": Constant(),
    "linear": Linear(),
    "cosine": Cosine(),
    "plateau": Plateau(0.8, 5),
}


@Parameter(name="*", group=panel("What is minimised"))
@dataclass(frozen=True)
class WeightFlags:
    """Weights of the objective, instead of the preset's; 0 leaves a quantity out.

    Attributes:
        energy_weight: of the energy per atom.
        forces_weight: of the forces.
        stress_weight: of the stress.
        hessian_weight: of the Hessian products that 'equiprune label' wrote; no preset has one.
        hessian_samples: how many of a structure's products a step compares; each makes it dearer. 1 unless given.
    """

    energy_weight: float | None = None
    forces_weight: float | None = None
    stress_weight: float | None = None
    hessian_weight: float | None = None
    hessian_samples: Positive | None = None

    def on(self, objective: Objective) -> Objective:
        """The objective with these weights; raises `TargetError` for a negative one, or when nothing is left."""
        given = {"energy": self.energy_weight, "forces": self.forces_weight, "stress": self.stress_weight}
        given["hessian"] = self.hessian_weight
        for quantity, weight in given.items():
            if weight is not None and not 0 <= weight < float("inf"):
                raise TargetError(f"--{quantity}-weight {weight} is not possible: give 0 or a positive number.")
        terms = {q: replace(getattr(objective, q), weight=w) for q, w in given.items() if w is not None}
        if self.hessian_samples is None:
            return replace(objective, **terms)
        if not self.hessian_weight:
            raise TargetError("--hessian-samples counts what --hessian-weight weighs; give it too.")
        return replace(objective, **terms, hessian_samples=self.hessian_samples)


@Parameter(name="*", group=panel("How to train"))
@dataclass(frozen=True)
class RecipeFlags:
    """How to train; what is not given is the preset's.

    Attributes:
        preset: objective and optimisation.
        epochs: passes over the data.
        batch_size: structures per step and process.
        learning_rate: at the start, or after the warm-up.
        schedule: of the learning rate: constant, linear or cosine to 1 % of it, or times 0.8 on a plateau of 5 epochs.
        warm_up: steps over which the learning rate rises from zero.
        weight_decay: of weights that mix channels.
        clip: largest norm of the gradient; 0 for no limit.
        average: decay of the moving average of the weights, which is what is kept; 0 for none.
        rates: factors on the learning rate of parameters by pattern of their names, e.g. "readouts.*=0.1".
        freeze: patterns of parameter names that stay as they are, e.g. "readouts.*".
        patience: stop after more epochs than this without a better validation loss.
    """

    preset: PresetName = "mace-universal"
    epochs: Positive = 10
    batch_size: Positive = 4
    learning_rate: float | None = None
    schedule: ScheduleName | None = None
    warm_up: NotNegative | None = None
    weight_decay: float | None = None
    clip: float | None = None
    average: float | None = None
    rates: Patterns | None = None
    freeze: Patterns | None = None
    patience: NotNegative | None = None

    def recipe(self, weights: WeightFlags, seed: int) -> Recipe:
        """The preset, with what the flags say instead."""
        chosen = PRESETS[self.preset]
        given: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "schedule": None if self.schedule is None else _SCHEDULES[self.schedule],
            "warm_up": self.warm_up,
            "weight_decay": self.weight_decay,
            "rates": dict.fromkeys(self.freeze or [], 0.0) | dict(map(_rate, self.rates or [])),
        }
        given = {name: value for name, value in given.items() if value is not None}
        given |= {name: getattr(self, name) or None for name in ("clip", "average") if getattr(self, name) is not None}
        optimisation = replace(chosen.optimisation, **given)
        return Recipe(weights.on(chosen.objective), optimisation, self.epochs, self.batch_size, seed, self.patience)


def _rate(text: str) -> tuple[str, float]:
    """Pattern and factor."""
    pattern, sign, factor = text.rpartition("=")
    try:
        return pattern, float(factor if sign else "")
    except ValueError:
        raise TargetError(f"--rates '{text}' is no pattern and factor. Give e.g. 'readouts.*=0.1'.") from None


@Parameter(name="*", group=panel("Distorted copies"))
@dataclass(frozen=True)
class CopyFlags:
    """Structures near those given.

    Attributes:
        copies: distorted copies of each structure, labelled as well.
        rattle: displacement of the copies' atoms, standard deviation in Angstrom.
        strain: deformation of the copies' cells, standard deviation.
    """

    copies: NotNegative = 0
    rattle: float = 0.1
    strain: float = 0.02

    def augmentation(self, seed: int) -> Augmentation:
        """The same as a value of the API; raises `TargetError` for an impossible one."""
        return Augmentation(self.copies, self.rattle, self.strain, seed)


@Parameter(name="*", group=panel("Molecular dynamics"))
@dataclass(frozen=True)
class DynamicsFlags:
    """Structures that the teacher meets.

    Attributes:
        frames: of molecular dynamics with the teacher that starts from each structure, labelled as well.
        temperature: of the dynamics, K.
        interval: steps between its frames.
        timestep: of the dynamics, fs.
    """

    frames: NotNegative = 0
    temperature: float = 600.0
    interval: Positive = 20
    timestep: float = 1.0

    def dynamics(self, seed: int) -> Dynamics:
        """The same as a value of the API; raises `TargetError` for an impossible one."""
        return Dynamics(self.frames, self.temperature, self.interval, self.timestep, seed)


@Parameter(name="*", group=panel("Second derivatives"))
@dataclass(frozen=True)
class ProbeFlags:
    """Products of the teacher's Hessian, for 'equiprune train --hessian-weight'.

    Attributes:
        hessian_rows: also label this many random rows of each structure's Hessian.
        hessian_probes: instead of rows, products of the Hessian with this many random vectors.
    """

    hessian_rows: Positive | None = None
    hessian_probes: Positive | None = None

    def chosen(self, seed: int) -> Probes | None:
        """What to multiply Hessians by, None for nothing; raises `TargetError` for both."""
        if self.hessian_rows is not None and self.hessian_probes is not None:
            raise TargetError("--hessian-rows and --hessian-probes are two ways to the same; leave one out.")
        if self.hessian_probes is not None:
            return RandomProbes(self.hessian_probes, seed)
        return None if self.hessian_rows is None else Rows(self.hessian_rows, seed)


@Parameter(name="*", group=panel("Dashboards"))
@dataclass(frozen=True)
class WatchFlags:
    """Where the learning curve goes besides curve.csv and curve.png.

    Attributes:
        tensorboard: also event files for TensorBoard, in the run's folder "tensorboard".
        wandb: also this project on Weights & Biases.
    """

    tensorboard: Switch = False
    wandb: str | None = None

    def observers(self, run: Path) -> list[Observer]:
        """Who is told about the run in this folder; raises `EquipruneError` for a package that is not installed."""
        boards: list[Observer] = [TensorBoard(run)] if self.tensorboard else []
        return [CurvePicture(run), *boards, *([Wandb(run, self.wandb)] if self.wandb else [])]


@Parameter(name="*", group=panel("Which structures"))
@dataclass(frozen=True)
class SampleFlags:
    """Which of the structures are learnt from, and which choose the best model.

    Attributes:
        frames_per_structure: at most this many frames of each structure, drawn at random by --seed.
        validation_share: instead of --validation, this share of the structures, with all their frames, drawn by --seed.
        structure_key: the info entry that says which structure a frame is of, e.g. traj; each frame is one without it.
    """

    frames_per_structure: Positive | None = None
    validation_share: float | None = None
    structure_key: str | None = None


@Parameter(name="*", group=panel("Loading"))
@dataclass(frozen=True)
class LoadingFlags:
    """How structures get to the model; results are the same bits whatever is chosen.

    Attributes:
        workers: processes that read structures and build graphs; 0 leaves it to the one that trains.
        cache: a folder that keeps neighbour lists, for this run and others.
    """

    workers: NotNegative = 0
    cache: Path | None = None


_REFERENCES: Mapping[str, References] = {"keep": KeepReferences(), "refit": RefitReferences()}


@Parameter(name="*", group=panel("Another level of theory"))
@dataclass(frozen=True)
class TheoryFlags:
    """What becomes of a model, and of what it knew, when the data is of another level of theory.

    Attributes:
        references: energies of elements: keep, refit (least squares on the data), or a file of energies of isolated
            atoms, as .json ({"H": -13.6}, eV) or as structures of one atom.
        scale: keep, or with --from-scratch rms-forces: the energy scale that the forces of the data suggest.
        replay: a second labelled set, of the level of theory that the model knows, to draw from in every epoch.
        replay_share: of the structures of an epoch, that are replayed; 0.5 unless given.
    """

    references: ReferencesName | Path = "keep"
    scale: ScaleName = "keep"
    replay: Path | None = None
    replay_share: float | None = None

    @property
    def files(self) -> list[Path]:
        """Those that are read."""
        return [path for path in (self.references, self.replay) if isinstance(path, Path)]

    def chosen(self, cutoff: float, keys: LabelKeys) -> References:
        """What to do about references; single atoms in a file are isolated when no image is within the cutoff."""
        if isinstance(self.references, str):
            return _REFERENCES[self.references]
        return read_references(self.references, cutoff, keys)

    def replayed(self, structures: Sequence[Atoms]) -> Replay:
        """The second set; raises `TargetError` for an impossible share."""
        return Replay(structures) if self.replay_share is None else Replay(structures, self.replay_share)

    def check_file(self) -> None:
        """Raise `TargetError` for references that are not there."""
        if isinstance(self.references, Path) and not self.references.exists():
            advice = closest(str(self.references), _REFERENCES)
            raise TargetError(f"--references {self.references} is neither keep nor refit nor a file.{advice}")

    def check(self, *, from_scratch: bool) -> None:
        """Raise `TargetError` for an impossible share, and for flags that contradict."""
        self.replayed(())
        if self.replay_share is not None and self.replay is None:
            raise TargetError("--replay-share is the share of what --replay names; give --replay or leave it out.")
        if self.scale != "keep" and not from_scratch:
            raise TargetError(
                "--scale rms-forces would multiply what the model has learnt. It is for --from-scratch; leave it out."
            )
        if self.replay is not None and from_scratch and self.references != "keep":
            raise TargetError(
                "References fitted to random weights say nothing about the labels of --replay, and --from-scratch "
                "forgets nothing. Leave out --replay, or keep the references."
            )


@Parameter(name="*", group=panel("Where it runs"))
@dataclass(frozen=True)
class ProcessFlags:
    """Where training runs.

    Attributes:
        device: cpu or cuda.
        devices: processes on this node, one for each GPU; torchrun and SLURM start as many.
        nodes: machines, for torchrun and SLURM.
    """

    device: DeviceName = "cpu"
    devices: Positive = 1
    nodes: Positive = 1

    def launched(self) -> Fabric:
        """The processes, of which this is one from here on; `check` says whether they can be."""
        from lightning_fabric import Fabric  # slow to import, and only training needs it

        several = self.devices * self.nodes > 1
        if sys.flags.safe_path:  # Lightning starts the others without the flag -P
            os.environ["PYTHONSAFEPATH"] = "1"
        fabric = Fabric(
            accelerator=self.device,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy="ddp" if several else "auto",
        )
        fabric.launch()
        return fabric

    def check(self, environment: Mapping[str, str]) -> None:
        """Raise `TargetError` for GPUs that are not here.

        Also if a launcher has started another number of processes: each would train on its own.
        """
        cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.device == "cuda" and cards < self.devices:
            raise TargetError(
                f"--device cuda with --devices {self.devices} needs as many GPUs; there are {cards} here."
            )
        started, expected = _started(environment), self.devices * self.nodes
        if started is not None and started != expected:
            raise TargetError(
                f"The launcher has started {started} processes, but --devices {self.devices} on --nodes {self.nodes} "
                f"are {expected}. Give --devices the processes on each machine and --nodes the machines, which "
                f"together make {started}, or start {expected}."
            )


def _started(environment: Mapping[str, str]) -> int | None:
    """How many processes torchrun or srun says that it has started, this one included; None if neither did."""
    if "WORLD_SIZE" in environment:
        return int(environment["WORLD_SIZE"])
    if "SLURM_STEP_ID" not in environment:  # the script of a job has SLURM_NTASKS too, but is one process
        return None
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1")))
    return tasks if tasks > 1 else None


DEFAULT_RECIPE, NO_COPIES, NO_DYNAMICS = RecipeFlags(), CopyFlags(), DynamicsFlags()
NO_WEIGHTS, NO_PROBES, NO_SAMPLE, IN_PROCESS = WeightFlags(), ProbeFlags(), SampleFlags(), LoadingFlags()
SAME_THEORY, UNWATCHED, ALONE = TheoryFlags(), WatchFlags(), ProcessFlags()
"""No flag given."""
