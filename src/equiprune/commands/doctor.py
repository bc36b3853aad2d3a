"""Python, packages, engines and devices of this machine, and the cost of a model on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from ase import Atoms

import equiprune as ep
from equiprune.commands.opening import check_device, open_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Device, Dtype, Model, Positive
from equiprune.commands.request import Request
from equiprune.commands.threads import threads_of_torch
from equiprune.errors import TargetError
from equiprune.evaluation.benchmark import timed
from equiprune.evaluation.engines import ENGINES, OWN, engine_named, engines_of, verified
from equiprune.progress import Display, Progress, Task, silent, unseen
from equiprune.structures.probes import probe_structures

_REPEATS, _FEWEST, _WARM_UP = 7, 3, 1
"""Timed turns; the fewest that a larger structure is timed with, and evaluations before, there."""
_SECONDS = 10.0
"""That turns with the larger structure may take, all together."""


@dataclass(frozen=True)
class Cost:
    """One engine on one structure.

    Attributes:
        engine: by name.
        atoms: of the structure.
        timing: of energy, forces and stress; None where there is none.
        refused: the reason for that, empty where it was timed.
    """

    engine: str
    atoms: int
    timing: ep.Timing | None
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """Fields as above; of the timing the speed, and seconds of the fastest and the slowest turn."""
        timing = self.timing
        return {
            "engine": self.engine,
            "atoms": self.atoms,
            "atoms_per_second": timing and timing.atoms_per_second,
            "seconds_min": timing and min(timing.seconds),
            "seconds_max": timing and max(timing.seconds),
            "refused": self.refused,
        }


@dataclass(frozen=True)
class Examined:
    """A machine, and what a model costs on it by each engine, if one was named."""

    machine: ep.Machine
    model: str | None = None
    costs: tuple[Cost, ...] = ()

    def to_json(self) -> dict[str, Any]:
        costs = [cost.to_json() for cost in self.costs]
        return {**self.machine.to_json(), "model": self.model, "costs": costs}


@dataclass(frozen=True)
class Doctor(Request[Examined]):
    """Show what this machine has: devices, packages, engines, extras, known traps; and what a model costs on it.

    Attributes:
        time: a model, timed by every engine that is here, taking turns, on 8 and on 64 atoms of its elements.
        dtype: precision that it is timed in.
        threads: of torch while timing; its own choice unless given.
    """

    measures: ClassVar[bool] = True

    _: KW_ONLY
    time: Model | None = None
    dtype: Dtype = "float32"
    threads: Positive | None = None
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_device(self.device)

    def run(self, display: Display = unseen) -> Examined:
        """Look, and time the model."""
        if self.time is None:
            return Examined(ep.doctor())
        potential = open_model(self.time, self.dtype, self.opening, device=self.device)
        with threads_of_torch(self.threads), display(Task("time", None)) as [step]:
            found = tuple(costs(potential, step))
        return Examined(ep.doctor(), self.time, found)


def costs(potential: ep.Potential, progress: Progress = silent) -> Iterator[Cost]:
    """Costs of a model by every engine that is here, taking turns at each size; the reasons of those that refuse it.

    Engines are compared with upstream's code first, once each. Upstream's is left out where it is equiprune's own. The
    larger size is not timed where even a few turns would take too long, which is said.
    """
    cell = probe_structures(potential.elements)["ionic"]
    large = cell.repeat(2)
    models, refusals = _verified(potential, cell)
    yield from (Cost(name, len(cell), None, reason) for name, reason in refusals.items())
    if not models:
        return
    small = timed(models, cell, repeats=_REPEATS, progress=progress)
    yield from _costs_of(small)
    turn = sum(timing.median for timing in small) * len(large) / len(cell)
    repeats = min(_REPEATS, int(_SECONDS / turn) - _WARM_UP)
    if repeats >= _FEWEST:
        yield from _costs_of(timed(models, large, repeats=repeats, warmup=_WARM_UP, progress=progress))
    else:
        reason = f"left to benchmark: one turn of all engines may take {turn:.0f} s"
        yield from (Cost(timing.engine, len(large), None, reason) for timing in small)


def _costs_of(timings: Iterable[ep.Timing]) -> Iterator[Cost]:
    """Costs of engines that were timed."""
    return (Cost(timing.engine, timing.atoms, timing) for timing in timings)


def _verified(
    potential: ep.Potential, atoms: Atoms
) -> tuple[Mapping[tuple[str, str], ep.Potential], Mapping[str, str]]:
    """The model as engines evaluate it, by names of model and engine, and the reasons of those that refuse it."""
    models, refusals = {}, {}
    for name in _names(potential):
        try:
            models["", name] = verified(engine_named(name), potential, atoms)
        except TargetError as error:
            refusals[name] = str(error)
    return models, refusals


def _names(potential: ep.Potential) -> list[str]:
    """Engines that are here, for models on this device; upstream's only where it is not equiprune's own."""
    own = [OWN.name] if OWN.is_upstream(potential) else list(ENGINES)
    here = [e for e in engines_of(potential.adapter) if potential.device.type in e.devices and not e.why_not_here()]
    return [*own, *(engine.name for engine in here)]
