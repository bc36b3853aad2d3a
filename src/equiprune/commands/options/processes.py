"""Hardware: devices, processes, nodes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Positive
from equiprune.errors import TargetError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


DeviceName = Literal["cpu", "cuda"]


@Parameter(name="*", group=panel("Where it runs"))
@dataclass(frozen=True)
class ProcessOptions(Complete):
    """Devices, processes and nodes that training runs on.

    Attributes:
        device: cpu or cuda.
        devices: processes on this node, one for each GPU; torchrun and SLURM start as many.
        nodes: machines, for torchrun and SLURM.
    """

    device: DeviceName = "cpu"
    devices: Positive = 1
    nodes: Positive = 1

    def launched(self) -> Fabric:
        """The processes, of which this is one from here on; `check_machine` says whether they can be."""
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

    def check_machine(self, environment: Mapping[str, str]) -> None:
        """Raise `TargetError` for GPUs that are not here.

        Also if a launcher has started another number of processes: each would train on its own.
        """
        cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.device == "cuda" and cards < self.devices:
            raise TargetError(
                f"`device` cuda with `devices` {self.devices} needs as many GPUs; there are {cards} here."
            )
        started, expected = _started(environment), self.devices * self.nodes
        if started is not None and started != expected:
            raise TargetError(
                f"The launcher has started {started} processes, but `devices` {self.devices} on `nodes` {self.nodes} "
                f"are {expected}. Give `devices` the processes on each machine and `nodes` the machines, which "
                f"together make {started}, or start {expected}."
            )


def _started(environment: Mapping[str, str]) -> int | None:
    """Number of processes that torchrun or srun has started, this one included; None if neither did."""
    if "WORLD_SIZE" in environment:
        return int(environment["WORLD_SIZE"])
    if "SLURM_STEP_ID" not in environment:  # the script of a job has SLURM_NTASKS too, but is one process
        return None
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1")))
    return tasks if tasks > 1 else None


ALONE = ProcessOptions()
"""Nothing said."""
