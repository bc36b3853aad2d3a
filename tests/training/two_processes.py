"""What `test_two_processes` looks at: ``python two_processes.py FOLDER``, with LOCAL_RANK 0 and with LOCAL_RANK 1.

Each process writes what it found to FOLDER. Imported, it is the one process that they are compared with.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from runs import HESSIAN, RECIPE, mixed, probed, run, signalled, student
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import equiprune as ep
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.blocks import WeightLayout
from equiprune.errors import EquipruneError
from equiprune.storage import Progress, silent
from equiprune.training import trainer
from equiprune.training.objective import Objective, Square, Term
from equiprune.training.optimisation import Optimisation
from equiprune.training.trainer import Recipe

PROCESSES, RANK = (2, int(os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else (1, 0)

SHARED = replace(RECIPE, batch_size=4 // PROCESSES)
"""The joint batch of two processes is that of one."""

ONE_STEP = replace(SHARED, epochs=1, optimisation=Optimisation(clip=None))
CURVED = replace(ONE_STEP, objective=replace(HESSIAN, hessian_samples=2))
FORCES_ONLY = replace(ONE_STEP, objective=Objective(Term(0.0, Square()), Term(1.0, Square())))


class FreeShift(ToyAdapter):
    """A toy that trains its energy of each element, which no force depends on."""

    def weight_layouts(self, architecture: ToyArchitecture) -> dict[str, WeightLayout]:
        layouts = super().weight_layouts(architecture)
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


def message(folder: Path, recipe: Recipe, strategy: DDPStrategy | None = None, progress: Progress = silent) -> str:
    """Of the error that a run ends with."""
    try:
        run(folder, recipe, progress, fabric=fabric(strategy))
    except EquipruneError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


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
    }


if __name__ == "__main__":
    chosen = Path(sys.argv[1])
    torch.save(shared(chosen) | only_of_two(chosen), chosen / f"{RANK}.pt")
