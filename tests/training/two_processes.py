"""What `test_two_processes` looks at, computed by as many processes as run this: ``python two_processes.py FOLDER``.

Started twice with LOCAL_RANK 0 and 1, and once without for what a single process finds on the joint batches. Each
writes what it found to FOLDER.
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
from runs import RECIPE, mixed, run, signalled, student
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
FOLDER = Path(sys.argv[1])

SHARED = replace(RECIPE, batch_size=4 // PROCESSES)
"""The joint batch of two processes is that of one."""

ONE_STEP = replace(SHARED, epochs=1, optimisation=Optimisation(clip=None))
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


def fabric(strategy: Any = None) -> Fabric:
    """The processes there are."""
    strategies = {"strategy": strategy or "ddp"} if PROCESSES > 1 else {}
    made = Fabric(accelerator="cpu", devices=PROCESSES, **strategies)
    made.launch()
    return made


def train(name: str, recipe: Recipe, strategy: Any = None, progress: Progress = silent, **changes: Any) -> Any:
    """A run in a subfolder."""
    return run(FOLDER / name, recipe, progress, fabric=fabric(strategy), **changes)


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


def gradients(name: str, recipe: Recipe, **changes: Any) -> dict[str, torch.Tensor]:
    """Of the last step of a run."""
    with modules() as seen:
        train(name, recipe, **changes)
    return {name: p.grad for name, p in seen[0].named_parameters() if p.grad is not None}


def message(name: str, recipe: Recipe, **changes: Any) -> str:
    """Of the error that a run ends with."""
    try:
        train(name, recipe, **changes)
    except EquipruneError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def main() -> None:
    """Everything, in one go: starting a process takes longer than all of it."""
    one_step = {"structures": mixed(), "validation": ()}
    free = ep.Potential.create(FreeShift(), student().checkpoint, torch.float64)
    found = {
        "gradients": gradients("gradients", ONE_STEP, **one_step),
        "forces only": gradients("forces", FORCES_ONLY, potential=free, **one_step),
        "weights": train("weights", SHARED).checkpoint.weights,
    }
    if PROCESSES > 1:
        found["stopped"] = message("stopped", SHARED, progress=signalled(3, signal.SIGTERM) if RANK == 1 else silent)
        found["resumed"] = train("stopped", SHARED).checkpoint.weights
        found["unsynchronised"] = message("unsynchronised", SHARED, strategy=Unsynchronised())
        for setting in ("static_graph", "find_unused_parameters"):
            found[setting] = message(setting, SHARED, strategy=DDPStrategy(**{setting: True}))
        found["too few"] = message("few", replace(SHARED, batch_size=8))
    torch.save(found, FOLDER / f"{PROCESSES}-{RANK}.pt")


if __name__ == "__main__":
    main()
