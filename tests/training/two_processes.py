"""What `test_two_processes` looks at: ``python two_processes.py FOLDER``, with LOCAL_RANK 0 and with LOCAL_RANK 1.

Each process writes what it found to FOLDER. Imported, it is the one process that they are compared with.
"""

import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from ase import Atoms
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from runs import HESSIAN, RECIPE, labelled, mixed, probed, run, signalled, student, vacuum
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import equiprune as ep
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.blocks import WeightLayout
from equiprune.errors import EquipruneError, OutputError, StructureError
from equiprune.progress import Progress, silent
from equiprune.structures.sequences import Structures
from equiprune.training import trainer
from equiprune.training.objective import Objective, Square, Term
from equiprune.training.optimisation import Optimisation
from equiprune.training.recipe import Recipe
from equiprune.training.run_folder import RunFolder

PROCESSES, RANK = (2, int(os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else (1, 0)

SHARED = replace(RECIPE, batch_size=4 // PROCESSES)
"""The joint batch of two processes is that of one."""

ONE_STEP = replace(SHARED, epochs=1, optimisation=Optimisation(clip=None))
CURVED = replace(ONE_STEP, objective=replace(HESSIAN, hessian_samples=2))
FORCES_ONLY = replace(ONE_STEP, objective=Objective(Term(0.0, Square()), Term(1.0, Square())))


class FreeShift(ToyAdapter):
    """A toy that trains its energy of each element, which no force depends on."""

    def layouts(self, architecture: ToyArchitecture) -> dict[str, WeightLayout]:
        layouts = super().layouts(architecture)
        return {**layouts, "shift": replace(layouts["shift"], trainable=True)}


class Unsynchronised(DDPStrategy):
    """Every process keeps the gradient it has, and says nothing."""

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        wrapped = super().setup_module(module)
        wrapped.register_comm_hook(None, self.keep)
        return wrapped

    @staticmethod
    def keep(_: object, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        kept: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        kept.set_result(bucket.buffer())
        return kept


def fabric(strategy: DDPStrategy | None = None) -> Fabric:
    """The processes there are."""
    made = Fabric(accelerator="cpu", devices=PROCESSES, strategy=(strategy or "ddp") if PROCESSES > 1 else "auto")
    made.launch()
    return made


@contextmanager
def modules() -> Iterator[list[nn.Module]]:
    """The modules inside the runs meanwhile; they keep the gradients of their last step."""
    seen: list[nn.Module] = []
    made = trainer.optimizer

    def remember(module: nn.Module, *arguments: Any) -> torch.optim.Optimizer:
        seen.append(module)
        return made(module, *arguments)

    trainer.optimizer = remember  # type: ignore[assignment]
    yield seen
    trainer.optimizer = made


def gradients(folder: Path, recipe: Recipe, **changes: Any) -> dict[str, torch.Tensor]:
    """Of the only step of a run."""
    with modules() as seen:
        run(folder, recipe, fabric=fabric(), **({"structures": mixed(), "validation": ()} | changes))
    return {name: p.grad for name, p in seen[0].named_parameters() if p.grad is not None}


def message(
    folder: Path,
    recipe: Recipe,
    strategy: DDPStrategy | None = None,
    progress: Progress = silent,
    **changes: Any,
) -> str:
    """Of the error that a run ends with."""
    try:
        run(folder, recipe, progress, fabric=fabric(strategy), **changes)
    except EquipruneError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def validations(folder: Path) -> dict[str, Any]:
    """Losses that this process remembers, and how many structures it validated; its own differ in their last bits."""
    seen: list[float] = []
    validated = 0
    exact, rate = trainer.validation_sums, trainer.set_learning_rate

    def inexact(potential: ep.Potential, batches: Any, objective: Objective) -> tuple[list[float], list[int]]:
        nonlocal validated
        kept = list(batches)
        validated += sum(data.graph.n_structures for data in kept)
        totals, counts = exact(potential, kept, objective)
        return [total * (1 + RANK * 1e-15) for total in totals], counts

    def remember(*given: Any) -> float:
        seen[:] = given[-1]
        return rate(*given)

    with patch.object(trainer, "validation_sums", inexact), patch.object(trainer, "set_learning_rate", remember):
        run(folder, SHARED, fabric=fabric(), validation=labelled(1)[:5])
    return {"losses": seen, "validated": validated}


class Unreadable(Structures):
    """Eight structures; in the second process, the disk is gone after the start of the run."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 8

    def read(self, index: int) -> Atoms:
        self.reads += 1
        if RANK == 1 and self.reads > 12:
            raise StructureError("The disk is gone.")
        return labelled()[index]


def carbon() -> Atoms:
    """A molecule that no other structure has the formula of."""
    return vacuum(Atoms("C3", positions=[[0, 0, 0], [1.3, 0.1, 0], [0.2, 1.4, 0]]))


def infinite() -> ep.Potential:
    """The student, with an energy of carbon that is not finite."""
    shift = dict(student().checkpoint.weights)["shift"].clone()
    shift[1] = math.inf
    weights: Mapping[str, torch.Tensor] = {**student().checkpoint.weights, "shift": shift}
    return ep.Potential.create(student().adapter, replace(student().checkpoint, weights=weights), torch.float64)


def full(*_: Any) -> None:
    """The disk of the first process, the only one that writes."""
    assert RANK == 0
    raise OutputError("The disk is full.")


def failures(folder: Path) -> dict[str, str]:
    """How this process ends when one of the two finds an error."""
    (folder / "foreign").mkdir(exist_ok=True)
    (folder / "foreign" / "thesis.tex").touch()
    others = labelled()[2:]
    found = {
        "foreign": message(folder / "foreign", SHARED),
        "unreadable": message(folder / "unreadable", SHARED, structures=Unreadable()),
        "infinite": message(folder / "a", SHARED, potential=infinite(), structures=[*others, carbon()]),
        "validation": message(
            folder / "b", SHARED, potential=infinite(), structures=others, validation=[*others[:3], carbon()]
        ),
    }
    for method in ("record", "save"):
        with patch.object(RunFolder, method, full):
            found[method] = message(folder / method, SHARED)
    with patch.object(trainer, "save", full):
        found["result"] = message(folder / "result", ONE_STEP)
    return found


def shared(folder: Path) -> dict[str, Any]:
    """What one process and two must agree on."""
    free = ep.Potential.create(FreeShift(), student().checkpoint, torch.float64)
    return {
        "gradients": gradients(folder / "gradients", ONE_STEP),
        "hessian": gradients(folder / "hessian", CURVED, structures=probed()[:4]),
        "forces only": gradients(folder / "forces", FORCES_ONLY, potential=free),
        "weights": run(folder / "weights", SHARED, fabric=fabric()).checkpoint.weights,
    }


def only_of_two(folder: Path) -> dict[str, Any]:
    """What only several processes can do."""
    stop = signalled(3, signal.SIGTERM) if RANK == 1 else silent
    return {
        "stopped": message(folder / "stopped", SHARED, progress=stop),
        "resumed": run(folder / "stopped", SHARED, fabric=fabric()).checkpoint.weights,
        "unsynchronised": message(folder / "unsynchronised", SHARED, Unsynchronised()),
        "static_graph": message(folder / "static", SHARED, DDPStrategy(static_graph=True)),
        "find_unused_parameters": message(folder / "unused", SHARED, DDPStrategy(find_unused_parameters=True)),
        "too few": message(folder / "few", replace(SHARED, batch_size=8)),
        "validations": validations(folder / "validations"),
        "failures": failures(folder),
    }


if __name__ == "__main__":
    chosen = Path(sys.argv[1])
    torch.save(shared(chosen) | only_of_two(chosen), chosen / f"{RANK}.pt")
