"""Commands whose work several processes share: started here, by torchrun or srun, or as a job array of SLURM.

Each process does what none of the others has done or claimed (`equiprune.files.shared_work`). The one that waits does
what those leave that were lost, and gives the result; the others give none.
"""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch

from equiprune.commands.options.sharing import Launched, SharingOptions
from equiprune.commands.request import Request, Result, remarks
from equiprune.commands.threads import threads_of_torch
from equiprune.files.shared_work import Role, Share, UnfinishedError
from equiprune.progress import Display, unseen
from equiprune.training.signals import ENDING

R = TypeVar("R", bound=Result)


class SharedRequest(Request[R | None]):
    """Base of commands whose work several processes share."""

    device: str
    sharing: SharingOptions

    @abstractmethod
    def take_part(self, place: Launched, display: Display = unseen) -> R:
        """Do the part of one of the processes, and give the result of all.

        Raises:
            UnfinishedError: another process gives the result.
        """

    def run(self, display: Display = unseen) -> R | None:
        """Do it, with other processes if they are asked for; None where another process gives the result."""
        place = self.sharing.launched()
        if place is None:
            with _others(self, self.sharing.processes):
                return self.take_part(Launched(self.sharing.share), display)
        try:
            return self.take_part(place, display)
        except UnfinishedError as still:
            remarks.info(str(still))
            return None


def check_unfinished(place: Launched, result: Path) -> None:
    """Raise `UnfinishedError` for a process that comes after the result; `check_writable` is for one that waits."""
    if place.share.role is not Role.WAITS and result.exists():
        raise UnfinishedError(f"'{result}' is there already: nothing is left to do.")


@contextmanager
def _others(request: SharedRequest[Any], count: int) -> Iterator[None]:
    """All processes but this one, which end with it, on equal parts of its threads."""
    if count == 1:
        yield
        return
    threads = max(1, torch.get_num_threads() // count)
    started = [_started(request, Launched(Share(rank, count, Role.HELPS), rank), threads) for rank in range(1, count)]
    try:
        with threads_of_torch(threads):
            yield
        _tell_of_lost(started)
    finally:
        for process in started:
            process.terminate()
            process.join()


def _started(request: SharedRequest[Any], place: Launched, threads: int) -> BaseProcess:
    process = get_context("spawn").Process(target=_take_part, args=(request, place, threads), daemon=True)
    process.start()
    return process


def _take_part(request: SharedRequest[Any], place: Launched, threads: int) -> None:
    """The whole of another process. Its errors are found by the first one too, which says them."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        request.take_part(place)
    except UnfinishedError:
        pass
    except Exception:  # the first one finds it too, and says it as a command does
        raise SystemExit(1) from None


def _tell_of_lost(processes: list[BaseProcess]) -> None:
    for number, process in enumerate(processes, 1):
        if process.exitcode:
            remarks.warning(
                f"Process {number} ended with code {process.exitcode} (-9 is often a lack of memory); the others did "
                "its work."
            )
