"""Speed of models."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from ase import Atoms

import equiprune as ep
from equiprune.commands.opening import check_compared, open_models
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Bare, Device, Dtype, EvaluationEngines, Models, Positive
from equiprune.commands.request import Request
from equiprune.commands.threads import threads_of_torch
from equiprune.errors import TargetError
from equiprune.evaluation.engines import OWN, EvaluationEngine, engine_named
from equiprune.progress import Display, Task, unseen
from equiprune.searching.cost_model import Conditions
from equiprune.structures.probes import probe_structures

WARM_UP = 2
"""Evaluations of each model that are not timed."""


@dataclass(frozen=True)
class Timed:
    """Timings of every model on the same structure, or on a batch of copies of it."""

    structure: Atoms
    copies: int
    device: str
    timings: tuple[ep.Timing, ...]
    timestep: float

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {**timing.to_json(), "timestep": self.timestep, "ns_per_day": timing.nanoseconds_per_day(self.timestep)}
            for timing in self.timings
        ]


@dataclass(frozen=True)
class Benchmark(Request[Timed]):
    """Time models side by side, taking turns on the same structure.

    Attributes:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        data: the first structure is used; without it a rock-salt cell of 64 atoms.
        atoms: instead, as many copies of the largest structure at once as have at least so many atoms.
        dtype: precision of the models.
        engine: code that evaluates the models, each compared with upstream's own first: equiprune unless
            given, upstream, symmetrix for MACE, or several of them.
        repeats: timed evaluations per model, after two for warming up.
        timestep: fs, of dynamics whose ns/day are told, if evaluating was all there is to do.
        threads: of torch; its own choice unless given.
    """

    models: Models
    _: KW_ONLY
    data: Bare | None = None
    atoms: Positive | None = None
    dtype: Dtype = "float32"
    engine: EvaluationEngines | None = None
    repeats: Positive = 5
    timestep: float = 1.0
    threads: Positive | None = None
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_compared(self.models, self.device)
        self._engines()
        if not 0 < self.timestep < float("inf"):
            raise TargetError(f"`timestep` {self.timestep} is not possible: give a positive number of fs.")

    def run(self, display: Display = unseen) -> Timed:
        """Time all models in turns."""
        potentials = open_models(self.models, self.dtype, self.opening, self.device)
        shared = frozenset.intersection(*(potential.elements for potential in potentials.values()))
        atoms, copies = self._timed(shared)
        engines = self._engines()
        tasks = Task("benchmark", (self.repeats + WARM_UP) * len(potentials) * len(engines))
        with threads_of_torch(self.threads), display(tasks) as [step]:
            timings = ep.benchmark(
                potentials, atoms, copies=copies, repeats=self.repeats, warmup=WARM_UP, engines=engines, progress=step
            )
        return Timed(atoms, copies, self.device, tuple(timings), self.timestep)

    def _engines(self) -> list[EvaluationEngine]:
        return [engine_named(name) for name in dict.fromkeys(self.engine or [OWN.name])]

    def _timed(self, shared: frozenset[int]) -> tuple[Atoms, int]:
        """The structure that is timed, and how many copies of it at once."""
        structures = ep.read_structures(self.data) if self.data else iter([probe_structures(shared)["ionic"].repeat(2)])
        if self.atoms is None:
            return next(structures), 1
        timed = Conditions.of(list(structures), self.atoms)
        return timed.atoms, timed.copies
