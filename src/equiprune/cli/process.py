"""A command line in a process of its own, which ends as its command does; signals are passed on to it."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from equiprune.errors import EquipruneError
from equiprune.training.signals import handling


@dataclass(frozen=True)
class Ended:
    """End of a process: its exit code, its stdout, and whether it was asked to stop."""

    code: int
    said: str
    stopped: bool = False


def launch(words: Sequence[str], lock: int | None) -> Ended:
    """Run a command line in a process of its own; its notes go where ours go.

    Args:
        words: what follows ``equiprune``.
        lock: the descriptor that holds the pipeline's folder. The process holds it too: it lives on when this one is
            killed, and nobody may then work beside it. None on Windows, where it cannot be handed on.

    Raises:
        EquipruneError: it was killed.
    """
    # Without -P a file of the working directory, such as torch.py, would stand in for the package of that name.
    command = [sys.executable, "-P", "-m", "equiprune", *words]
    # In a group of its own it gets Ctrl-C once, from here, and not from the terminal as well.
    how: dict[str, Any] = {} if lock is None else {"pass_fds": (lock,), "process_group": 0}
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, **how) as child, _passed_on(child, alone=lock is not None) as passed:
        said, _ = child.communicate()
    if child.returncode < 0 and not passed:
        name = signal.Signals(-child.returncode).name
        raise EquipruneError(
            f"'{shown(words)}' was killed ({name}); SIGKILL is often a lack of memory. Finished stages are kept."
        )
    return Ended(child.returncode, said, bool(passed))


def shown(words: Sequence[str]) -> str:
    """A command line as it is typed."""
    return shlex.join(["equiprune", *words])


@contextmanager
def _passed_on(child: subprocess.Popen[str], *, alone: bool) -> Iterator[list[int]]:
    """Ctrl-C and requests to end go to the child, which ends as its command does; which ones there were.

    A child that is not ``alone`` in its group is sent Ctrl-C by the terminal.
    What is ignored (under nohup, of a job in the background of a script) is ignored by the child too.
    """
    passed: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        passed.append(number)
        if alone or number != signal.SIGINT:
            child.send_signal(number)

    with handling(pass_on):
        yield passed
