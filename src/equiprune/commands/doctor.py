"""Python, packages, engines and devices of this machine, and the cost of a model on it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import equiprune as ep
from equiprune.commands.opening import check_device, open_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Device, Dtype, Model, Positive
from equiprune.commands.request import Request
from equiprune.commands.threads import threads_of_torch
from equiprune.errors import TargetError
from equiprune.evaluation.engines import ENGINES, engine_named, engines_of
from equiprune.progress import Display, unseen
from equiprune.structures.probes import probe_structures


@dataclass(frozen=True)
class Cost:
    """One engine on a small structure.

    Attributes:
        engine: by name.
        atoms: of the structure.
        atoms_per_second: energy, forces and stress; None where the engine was refused.
        refused: the reason, empty where it was timed.
    """

    engine: str
    atoms: int
    atoms_per_second: float | None
    refused: str = ""


@dataclass(frozen=True)
class Examined:
    """A machine, and what a model costs on it by each engine, if one was named."""

    machine: ep.Machine
    model: str | None = None
    costs: tuple[Cost, ...] = ()

    def to_json(self) -> dict[str, Any]:
        costs = [vars(cost) for cost in self.costs]
        return {**self.machine.to_json(), "model": self.model, "costs": costs}


@dataclass(frozen=True)
class Doctor(Request[Examined]):
    """Show what this machine has: devices, packages, engines, extras, known traps; and what a model costs on it.

    Attributes:
        time: a model, timed by every engine that is here, on 8 atoms of its elements.
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
        here = [e for e in engines_of(potential.adapter) if potential.device.type in e.devices and not e.why_not_here()]
        names = [*ENGINES, *(engine.name for engine in here)]
        with threads_of_torch(self.threads):
            costs = tuple(_cost(name, potential) for name in names)
        return Examined(ep.doctor(), self.time, costs)


def _cost(name: str, potential: ep.Potential) -> Cost:
    atoms = probe_structures(potential.elements)["ionic"]
    try:
        [timing] = ep.benchmark({"": potential}, atoms, repeats=3, warmup=1, engines=[engine_named(name)])
    except TargetError as error:
        return Cost(name, len(atoms), None, str(error))
    return Cost(name, len(atoms), timing.atoms_per_second)
