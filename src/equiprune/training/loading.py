"""Batches built while the model computes: structures are read and their neighbours found by worker processes.

Which structures make a batch is decided outside, so any number of workers gives the same batches, bit by bit.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ase import Atoms
from torch.utils.data import DataLoader, Dataset

from equiprune.errors import EquipruneError
from equiprune.potentials.potential import Potential
from equiprune.structures.global_inputs import GlobalInput
from equiprune.structures.graph import AtomicGraph, Neighbours, neighbours
from equiprune.structures.neighbour_cache import NeighbourCache
from equiprune.structures.sequences import origin
from equiprune.training.batches import TrainingBatch, with_labels
from equiprune.training.hessian_batches import ProbeSchedule
from equiprune.training.signals import leave_signals_to_the_trainer, signals_held_back


class Request(NamedTuple):
    """A batch to be built.

    Attributes:
        use: the name of a set of structures.
        indices: which of them.
        turns: which of its Hessian products each brings along; none without.
    """

    use: str
    indices: Sequence[int]
    probes: ProbeSchedule | None = None


@dataclass(frozen=True, eq=False)
class Batches(Dataset[TrainingBatch | EquipruneError]):
    """Batches of sets of structures, each built when it is asked for.

    Attributes:
        sets: structures by name.
        cutoff: of the model, Angstrom.
        dtype: of the graphs.
        near: finds neighbours, or remembers them.
        max_neighbors: of an atom in the model; None for all within the cutoff.
        inputs: numbers of a whole structure that the model reads.
    """

    sets: Mapping[str, Sequence[Atoms]]
    cutoff: float
    dtype: torch.dtype
    near: Callable[[Atoms, float, int | None], Neighbours] = neighbours
    max_neighbors: int | None = None
    inputs: Sequence[GlobalInput] = ()

    def __getitem__(self, request: Request) -> TrainingBatch | EquipruneError:
        """A batch, or the error that its structures are: raised in a worker it would arrive as a traceback."""
        try:
            structures = [self.sets[request.use][i] for i in request.indices]
            near = [self.near(atoms, self.cutoff, self.max_neighbors) for atoms in structures]
            graphs = [AtomicGraph.of(*of, self.dtype, self.inputs) for of in zip(structures, near, strict=True)]
            probes = request.probes.of(request.indices) if request.probes else ()
            origins = [origin(self.sets[request.use], i, request.use) for i in request.indices]
            return with_labels(AtomicGraph.concatenated(graphs), structures, probes, origins)
        except EquipruneError as error:
            return error


class Loader:
    """Batches in the order asked for, from workers that all sets share; without workers, from this process.

    Workers are started once, by the first request, as new processes: a forked one would share open files, threads
    and the state of CUDA.
    """

    def __init__(self, batches: Batches, workers: int = 0) -> None:
        self._requests: list[Request] = []
        self._loader: DataLoader[TrainingBatch | EquipruneError] = DataLoader(
            batches,
            batch_size=None,
            sampler=self._requests,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=leave_signals_to_the_trainer if workers else None,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # or torch's own would be advanced, and random numbers depend on loading
        )
        self._finalizer = weakref.finalize(self, _end_workers, self._loader)

    @classmethod
    def of(
        cls, potential: Potential, sets: Mapping[str, Sequence[Atoms]], workers: int = 0, cache: Path | None = None
    ) -> Loader:
        """Batches for a potential. Raises `OutputError` when the folder of the cache cannot be made."""
        near = NeighbourCache.at(cache) if cache else neighbours
        arch = potential.architecture
        batches = Batches(sets, arch.cutoff, potential.dtype, near, arch.max_neighbors, arch.global_inputs)
        return cls(batches, workers)

    def close(self) -> None:
        """End the workers. At the end of Python they would be sent SIGTERM, which they ignore, and waited for."""
        self._finalizer()

    def __call__(self, requests: Sequence[Request]) -> Iterator[TrainingBatch]:
        """The batches asked for. Asking for others ends those asked for before.

        Raises:
            EquipruneError: a structure cannot be read, or two atoms are at the same place.
        """
        self._requests[:] = requests
        with signals_held_back():  # new processes begin so: there is no moment at which a signal ends them
            batches = iter(self._loader)
        for _ in requests:
            yield _received(batches)


def _received(batches: Iterator[TrainingBatch | EquipruneError]) -> TrainingBatch:
    try:
        batch = next(batches)
    except (EOFError, ConnectionError) as error:  # it was killed while it handed over a batch
        raise _lost("its connection broke.") from error
    if isinstance(batch, EquipruneError):
        raise batch
    return batch


@contextmanager
def translated_worker_errors() -> Iterator[None]:
    """Turn the loss of a worker into an `EquipruneError`.

    torch raises it from a signal handler, wherever this process happens to be: around all that uses a loader. Within a
    finaliser Python could only print it; the loss is then noticed at the next batch.
    """
    before = sys.unraisablehook
    sys.unraisablehook = lambda found: None if _is_loss(found.exc_value) else before(found)
    try:
        yield
    except RuntimeError as error:
        if not _is_loss(error):
            raise
        raise _lost(str(error).splitlines()[0]) from error
    finally:
        sys.unraisablehook = before


def _is_loss(error: BaseException | None) -> bool:
    """True for all that torch says of a worker that was killed or has no shared memory."""
    return isinstance(error, RuntimeError) and "DataLoader worker" in str(error)


def _lost(reason: str) -> EquipruneError:
    return EquipruneError(
        f"A worker that loads structures is gone: {reason} Use fewer `workers` if memory, or shared memory (/dev/shm), "
        "is short. The run goes on from its last saved state."
    )


def _unchanged(batch: Any) -> Any:
    return batch


def _end_workers(loader: DataLoader[Any]) -> None:
    """In the order that torch has for it: a worker that is killed would be an error."""
    workers: Any = loader._iterator
    if workers is not None:
        workers._shutdown_workers()
