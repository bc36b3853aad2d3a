"""Processes that share the work of a command, which need nothing of each other but a folder that all see."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Positive
from equiprune.commands.stages import Mark
from equiprune.errors import TargetError
from equiprune.files.shared_work import ALONE, Role, Share


@dataclass(frozen=True)
class Launched:
    """One of the processes that a launcher has started.

    Attributes:
        share: its part of the work.
        local: its number on its machine, which chooses its GPU.
    """

    share: Share
    local: int = 0

    @classmethod
    def by(cls, environment: Mapping[str, str]) -> Launched | None:
        """By torchrun, srun or a job array of SLURM, or both of the latter; None by none of them.

        >>> array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}
        >>> found = Launched.by(array)
        >>> found.share.rank, found.share.count, found.local
        (2, 4, 0)
        """
        if int(environment.get("WORLD_SIZE", "1")) > 1:
            rank, count = int(environment["RANK"]), int(environment["WORLD_SIZE"])
            return cls(Share(rank, count, _role(rank)), int(environment.get("LOCAL_RANK", rank)))
        rank, count, local = 0, 1, 0
        if "SLURM_STEP_ID" in environment:  # the script of a job has SLURM_NTASKS too, but is one process
            rank, count = int(environment.get("SLURM_PROCID", "0")), int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
            local = int(environment.get("SLURM_LOCALID", "0"))
        if "SLURM_ARRAY_TASK_ID" in environment:
            first, tasks = (int(environment.get(f"SLURM_ARRAY_TASK_{name}", "1")) for name in ("MIN", "COUNT"))
            task = (int(environment["SLURM_ARRAY_TASK_ID"]) - first) // int(environment.get("SLURM_ARRAY_TASK_STEP", 1))
            return cls(Share(task * count + rank, tasks * count, Role.MAY_BE_LAST), local)
        return cls(Share(rank, count, _role(rank)), local) if count > 1 else None


def _role(rank: int) -> Role:
    """Role of one of the processes that a launcher starts and ends together."""
    return Role.HELPS if rank else Role.WAITS


@Parameter(name="*", group=panel("Where it runs"))
@dataclass(frozen=True)
class SharingOptions(Complete):
    """Processes that share the work.

    Attributes:
        processes: on this machine, with a part of its threads each, and with --device cuda a GPU each where there are
            several; torchrun, srun and job arrays of SLURM start as many as they like instead.
    """

    processes: Annotated[Positive, Mark.UNRECORDED] = 1

    def launched(self) -> Launched | None:
        """This process among those that a launcher has started, None where there is no launcher.

        Raises:
            TargetError: there is one, and ``processes`` asks for more.
        """
        found = Launched.by(os.environ)
        if found and self.processes > 1:
            raise TargetError(
                f"A launcher has started this as process {found.share.rank} of {found.share.count}. Leave out "
                "`processes`, or start it without the launcher."
            )
        return found

    @property
    def share(self) -> Share:
        """The part of this process, if it is not one that a launcher has started."""
        return Share(0, self.processes) if self.processes > 1 else ALONE


BY_ITSELF = SharingOptions()
"""Nothing said."""


def device_of(device: str, local: int) -> str:
    """The device of one of several processes on a machine: with "cuda" the GPUs in turn."""
    cards = torch.cuda.device_count() if device == "cuda" and torch.cuda.is_available() else 0
    return f"cuda:{local % cards}" if cards > 1 else device
