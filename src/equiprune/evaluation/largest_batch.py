"""The largest batch that fits into memory, and the throughput there.

A GPU is used well by many structures at once, so that the speed of a model is that of the largest batch its memory
holds: a smaller model gains twice. It is found by doubling until memory is out, and by halving the gap a few times.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from ase import Atoms

from equiprune.adapters.precision import dtype_name
from equiprune.errors import TargetError
from equiprune.evaluation.engines import EvaluationEngine
from equiprune.evaluation.places import Evaluated, InLimitedProcess, InThisProcess, Place
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent

MOST_ATOMS = 2**20
"""Atoms of a batch beyond which no larger one is tried."""
_BISECTIONS = 3
"""Halvings of the gap between what fits and what does not: the largest batch is found to an eighth."""


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch of one model by one engine.

    Attributes:
        model, engine, dtype, backend, threads: the conditions.
        structure_atoms: of each copy.
        copies: in the largest batch; 0 where not even one structure fits.
        refused: copies of the smallest batch that did not fit; None where none was too large.
        halved: times that the batch was halved because memory was out while it was timed.
        single: seconds of each evaluation of one structure.
        seconds: of each evaluation of the largest batch.
        peak_memory_bytes: that the largest batch needed beyond the weights.
        memory: bytes that it could have; None for those of the device.
    """

    model: str
    engine: str
    dtype: str
    backend: str
    threads: int
    structure_atoms: int
    copies: int
    refused: int | None
    halved: int
    single: tuple[float, ...]
    seconds: tuple[float, ...]
    peak_memory_bytes: int
    memory: int | None

    @property
    def atoms(self) -> int:
        """In the largest batch."""
        return self.copies * self.structure_atoms

    @property
    def latency(self) -> float | None:
        """Seconds of an evaluation of one structure, by the median."""
        return statistics.median(self.single) if self.single else None

    @property
    def atoms_per_second(self) -> float | None:
        """Throughput at the largest batch, by the median."""
        return self.atoms / statistics.median(self.seconds) if self.seconds else None

    def to_json(self) -> dict[str, Any]:
        """Fields as above, without single evaluations, and ``atoms``, ``atoms_per_second`` and ``latency_seconds``."""
        left = {name: value for name, value in vars(self).items() if name not in ("single", "seconds")}
        rates = {"atoms_per_second": self.atoms_per_second, "latency_seconds": self.latency}
        return {**left, "atoms": self.atoms, **rates, "repeats": len(self.seconds)}


@dataclass(frozen=True)
class Search:
    """Outcome of looking for the largest number that fits.

    Attributes:
        fits: the largest that did; 0 for none.
        refused: the smallest that did not; None for none.
    """

    fits: int
    refused: int | None


def largest(fits: Callable[[int], bool], most: int, bisections: int = _BISECTIONS) -> Search:
    """The largest number that fits: doubled from 1 on until one does not, then the gap halved.

    Args:
        fits: True for what does; what is larger than what does not fit, does not either.
        most: no larger one is tried.
        bisections: times that the gap is halved.

    >>> largest(lambda number: number <= 100, most=1000)
    Search(fits=96, refused=104)
    >>> largest(lambda number: False, most=1000), largest(lambda number: True, most=1000)
    (Search(fits=0, refused=1), Search(fits=1000, refused=None))
    """
    best, number = 0, 1
    while fits(number):
        best = number
        if number == most:
            return Search(best, None)
        number = min(2 * number, most)
    refused = number
    for _ in range(bisections):
        middle = (best + refused) // 2
        if middle == best:
            break
        best, refused = (middle, refused) if fits(middle) else (best, middle)
    return Search(best, refused)


def largest_batches(
    potentials: Mapping[tuple[str, str], Potential],
    engines: Sequence[EvaluationEngine],
    atoms: Atoms,
    *,
    memory: int | None = None,
    repeats: int = 5,
    progress: Progress = silent,
) -> list[LargestBatch]:
    """The largest batch of every model by every engine, each timed at its own, and at one structure, taking turns.

    Args:
        potentials: by names of model and engine, compared before (`equiprune.evaluation.benchmark.compared`).
        engines: those of the names.
        atoms: the structure that batches are copies of.
        memory: bytes that a batch may need beyond the weights. A CPU needs a number; a GPU has its own.
        repeats: timed evaluations, each after one that is not.
        progress: called once per batch that was evaluated.

    Raises:
        TargetError: no memory is given for a CPU, more than there is, or a model fails for another reason.
    """
    named = {engine.name: engine for engine in engines}
    with ExitStack() as open_places:
        places = {
            key: open_places.enter_context(_place(potential, named[key[1]], atoms, memory))
            for key, potential in potentials.items()
        }
        counted = {key: _counted(place, progress) for key, place in places.items()}
        most = max(1, MOST_ATOMS // len(atoms))
        batches = {key: _Batch(evaluated, _filled(evaluated, most)) for key, evaluated in counted.items()}
        for _ in range(repeats):
            for batch in batches.values():
                batch.time()
    return [_outcome(key, potentials[key], len(atoms), batch, memory) for key, batch in batches.items()]


_Evaluate = Callable[[int, int], Evaluated | None]
"""So many copies, so many times; None where memory is out."""


def _counted(place: Place, progress: Progress) -> _Evaluate:
    def evaluated(copies: int, times: int) -> Evaluated | None:
        found = place.evaluated(copies, times)
        progress(1)
        return found

    return evaluated


def _filled(evaluated: _Evaluate, most: int) -> Search:
    """The largest batch that fits twice, as it is timed: the second evaluation may need a little more."""
    return largest(lambda copies: evaluated(copies, 2) is not None, most)


class _Batch:
    """The largest batch of one model while it is timed, which is halved where memory is out after all."""

    def __init__(self, evaluated: _Evaluate, search: Search) -> None:
        self._evaluated = evaluated
        self.copies, self.refused, self.halved, self.peak = search.fits, search.refused, 0, 0
        self.single: list[float] = []
        self.seconds: list[float] = []

    def time(self) -> None:
        """Time one structure and the batch once more, each after an evaluation that is not timed."""
        while self.copies:
            found, one = self._evaluated(self.copies, 2), self._evaluated(1, 2)
            if found is not None and one is not None:
                self.seconds.append(found.seconds)
                self.single.append(one.seconds)
                self.peak = max(self.peak, found.peak)
                return
            self.copies, self.refused, self.halved = self.copies // 2, self.copies, self.halved + 1
            self.seconds, self.single, self.peak = [], [], 0


def _outcome(
    key: tuple[str, str], potential: Potential, structure_atoms: int, batch: _Batch, memory: int | None
) -> LargestBatch:
    """The batch of a model and an engine, of these names, with the conditions that it was timed under."""
    return LargestBatch(
        model=key[0],
        engine=key[1],
        dtype=dtype_name(potential.dtype),
        backend=f"{potential.adapter.name} on {potential.device.type}",
        threads=torch.get_num_threads(),
        structure_atoms=structure_atoms,
        copies=batch.copies,
        refused=batch.refused,
        halved=batch.halved,
        single=tuple(batch.single),
        seconds=tuple(batch.seconds),
        peak_memory_bytes=batch.peak,
        memory=memory,
    )


def _place(potential: Potential, engine: EvaluationEngine, atoms: Atoms, memory: int | None) -> Place:
    if potential.device.type != "cpu":
        return InThisProcess(potential, atoms, memory)
    if memory is None:
        raise TargetError(
            "A CPU has no memory of its own that a batch could fill. Say how much: give `memory`, e.g. 8GB."
        )
    return InLimitedProcess(potential, engine, atoms, memory)


def table(found: Sequence[LargestBatch]) -> list[list[str]]:
    """Rows for display; speed is relative to the first model."""
    heads = ["model", "engine", "one structure (ms)", "largest batch", "atoms", "atoms/s", "speed", "peak memory, MiB"]
    rows = [[*heads, "did not fit"]]
    first = found[0].atoms_per_second
    for each in found:
        rate, latency = each.atoms_per_second, each.latency
        rows.append(
            [
                each.model,
                each.engine,
                "-" if latency is None else f"{1e3 * latency:.1f}",
                str(each.copies),
                str(each.atoms),
                "-" if rate is None else f"{rate:.0f}",
                "-" if rate is None or first is None else f"{rate / first:.2f}x",
                f"{each.peak_memory_bytes / 2**20:.0f}" if each.copies else "-",
                _refused(each),
            ]
        )
    return rows


def _refused(found: LargestBatch) -> str:
    if found.refused is None:
        return f"none tried: {MOST_ATOMS} atoms are the most"
    halved = f", halved {found.halved} times while timing" if found.halved else ""
    return f"{found.refused}{halved}"
