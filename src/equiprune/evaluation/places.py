"""Places where a batch is evaluated that may be too large for them: a device, or a process with limited memory.

On a GPU the allocator says when its memory is out. A CPU has no such limit: the system would end whatever process it
likes, so that batches are evaluated in a process of their own, which may have so much memory and no more.
"""

from __future__ import annotations

import gc
import pickle
import signal
import socket
import subprocess
import sys
import time
from abc import abstractmethod
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from ase import Atoms

from equiprune.errors import EquipruneError, TargetError
from equiprune.evaluation.engines import EvaluationEngine
from equiprune.evaluation.memory import (
    free_memory,
    held_memory,
    limit_memory,
    measures_each_peak,
    peak_memory,
)
from equiprune.potentials.out_of_memory import is_out_of_memory
from equiprune.potentials.potential import Potential

_RESERVE = 2**28
"""Bytes that a limited process may ask for beyond a quarter more than its limit: address space that is never used."""
_PATIENCE = 5
"""Seconds in which a process may end by itself."""
_SERVING = """
import signal, sys
from multiprocessing.connection import Connection
signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks hears it, and ends this one
connection = Connection(int(sys.argv[1]))
sys.path[:] = connection.recv()
from equiprune.evaluation.places import serve
serve(connection)
"""
"""Program of a limited process: it has the path of the one that asks, so that it finds the same packages."""
_KILLED = (-signal.SIGABRT, -getattr(signal, "SIGKILL", 9), -signal.SIGSEGV)
"""Ends of a process without memory: by C++ code that gets none, by the system, by code that does not ask."""


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of a batch.

    Attributes:
        seconds: of energy, forces and stress, without the neighbour list.
        peak: bytes that batch and evaluation needed beyond the weights.
    """

    seconds: float
    peak: int


class Place(AbstractContextManager["Place"]):
    """A model on a structure, copies of which are evaluated at once; a context that is left behind at the end."""

    @abstractmethod
    def evaluated(self, copies: int, times: int = 1) -> Evaluated | None:
        """The last of ``times`` evaluations of so many copies; None where memory is out, and it is as it was before."""


@dataclass(frozen=True)
class InThisProcess(Place):
    """A model on a device whose allocator says when its memory is out.

    Attributes:
        potential: the model.
        atoms: the structure.
        memory: bytes beyond the weights that count as all there are; None for those of the device.
    """

    potential: Potential
    atoms: Atoms
    memory: int | None = None

    def __exit__(self, *_: object) -> None:
        """Nothing is left behind."""

    def evaluated(self, copies: int, times: int = 1) -> Evaluated | None:
        try:
            found = _evaluated(self.potential, self.atoms, copies, times)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found = None
        if found is None:
            gc.collect()  # here, and not above: the error held the frames that hold the tensors
        if self.potential.device.type == "cuda":
            torch.cuda.empty_cache()  # or another model would find the memory taken
        return None if found is None or (self.memory is not None and found.peak > self.memory) else found


class InLimitedProcess(Place):
    """A model in a process of its own on the CPU, which may have so much memory.

    Raises:
        TargetError: memory cannot be limited or measured here, more is asked for than there is, the model is masked, or
            its code fails for another reason than memory.
    """

    def __init__(self, potential: Potential, engine: EvaluationEngine, atoms: Atoms, memory: int) -> None:
        check_limit(memory)
        if potential.taps:
            raise TargetError("A masked model cannot be evaluated in a process of its own. Prune it.")
        given = (potential.adapter, potential.checkpoint, potential.dtype, potential.head, engine, atoms)
        self._packed = pickle.dumps((*given, memory, torch.get_num_threads()))
        self._child: tuple[Connection, subprocess.Popen[bytes]] | None = None

    def evaluated(self, copies: int, times: int = 1) -> Evaluated | None:
        connection, child = self._running()
        try:
            connection.send((copies, times))
            answer = connection.recv()
        except (EOFError, OSError):
            self._child = None  # the next one is a new one
            _check_lost(child.wait())
            return None
        if isinstance(answer, str):
            raise TargetError(f"{copies} copies could not be evaluated: {answer}")
        return answer

    def __exit__(self, *_: object) -> None:
        """The process ends."""
        if self._child is not None:
            connection, child = self._child
            connection.close()  # which ends it, unless it is at work
            with suppress(subprocess.TimeoutExpired):
                child.wait(_PATIENCE)
            child.kill()
            child.wait()
            self._child = None

    def _running(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        """The process, started from this module: a copy of the script that asks would do what that does once more."""
        if self._child is None:
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-c", _SERVING, str(theirs.fileno())]
                child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            self._child = Connection(ours.detach()), child
            with suppress(OSError):  # of a process that is lost already, which is found when it is asked
                self._child[0].send(sys.path)
                self._child[0].send_bytes(self._packed)
        return self._child


def _check_lost(code: int) -> None:
    """Raise `TargetError` unless a process ended as those without memory do."""
    if code not in _KILLED:
        raise TargetError(
            f"The process that evaluates the model ended with code {code}; its last words are above. All code of the "
            "model and its engine must be in modules that can be imported, not in a script."
        )


def check_measurable() -> None:
    """Raise `TargetError` unless the memory of a process can be measured and limited here."""
    if not measures_each_peak():
        raise TargetError(
            "What fits into a memory can be found on a CPU only where the memory of a process is measured and limited, "
            "on Linux, and this is another system. Go there, or to a GPU, where it can be found on any."
        )


def check_limit(memory: int) -> None:
    """Raise `TargetError` unless a process can be held to so many bytes here."""
    check_measurable()
    if memory > free_memory():
        raise TargetError(
            f"`memory` {memory / 1e9:.3g} GB is more than the {free_memory() / 1e9:.3g} GB that are free on this "
            "machine."
        )


def _evaluated(potential: Potential, atoms: Atoms, copies: int, times: int) -> Evaluated | None:
    seconds = [0.0]

    def work() -> None:
        graph = potential.graph([atoms] * copies)
        for _ in range(times):
            _wait_for(potential.device)
            start = time.perf_counter()
            potential.differentiate(graph)
            _wait_for(potential.device)
            seconds[0] = time.perf_counter() - start

    before = held_memory(potential.device)
    peak = peak_memory(work, potential.device)
    return Evaluated(seconds[0], max((peak or 0) - before, 0))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def serve(connection: Connection) -> None:
    """The whole of a limited process: evaluates what it is asked until the other end is closed."""
    adapter, checkpoint, dtype, head, engine, atoms, memory, threads = pickle.loads(connection.recv_bytes())
    torch.set_num_threads(threads)
    potential = engine.prepared(Potential.create(adapter, checkpoint, dtype, head), set(atoms.numbers.tolist()))
    place = InThisProcess(potential, atoms, memory)
    gc.freeze()  # what is here stays: to look for garbage in it would take longer than small batches
    limit_memory(memory + memory // 4 + _RESERVE)
    with suppress(Exception):  # which is found again when it is asked for
        InThisProcess(potential, atoms).evaluated(1)  # what libraries take once is no memory of a batch
    while True:
        try:
            copies, times = connection.recv()
        except EOFError:
            return
        try:
            answer: Evaluated | str | None = place.evaluated(copies, times)
        except EquipruneError as error:
            answer = str(error)
        except Exception as error:  # of any code that evaluates models
            answer = f"{type(error).__name__}: {error}"
        connection.send(answer)
