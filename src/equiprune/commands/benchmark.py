"""Speed of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from ase import Atoms

import equiprune as ep
from equiprune.commands.opening import Identities, check_compared, check_suffix, identities, open_models
from equiprune.commands.options.budget import read_bytes
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import (
    Bare,
    Device,
    Dtype,
    EvaluationEngines,
    Models,
    Numbers,
    Positive,
    Precisions,
    Switch,
)
from equiprune.commands.request import Request, Result
from equiprune.commands.stages import RESULT, Kind, Mark, Product
from equiprune.commands.threads import threads_of_torch
from equiprune.errors import TargetError
from equiprune.evaluation.benchmark import compared, timed
from equiprune.evaluation.engines import OWN, EvaluationEngine, engine_named
from equiprune.evaluation.largest_batch import LargestBatch, largest_batches
from equiprune.evaluation.memory import obtainable_memory
from equiprune.evaluation.precisions import PRECISIONS, Precision, PrecisionErrors, precision_errors
from equiprune.evaluation.scaling import FEWEST_SIZES, Scaling, scaled, supercells
from equiprune.evaluation.scaling_figure import plot_scaling
from equiprune.files.atomic import check_writable
from equiprune.potentials.out_of_memory import is_out_of_memory
from equiprune.progress import Display, Task, unseen
from equiprune.searching.cost_model import Conditions
from equiprune.structures.probes import probe_structures
from equiprune.structures.reading import check_apart

WARM_UP = 2
"""Evaluations of each model that are not timed."""


@dataclass(frozen=True)
class Timed:
    """Timings of every model on the same structure, or on a batch of copies of it, and what else was asked for.

    Attributes:
        structure: that was timed.
        copies: of it, evaluated at once.
        device: of the models.
        timings: of every model with every engine.
        timestep: fs, that ns/day are for.
        identities: digest and head of every model, by name.
        scaling: lines of time against the number of atoms.
        largest_batch: the largest batch that fits into memory, of every model with every engine.
        precisions: errors of lower precision against float64, and speed.
        written: the picture of the lines, if there is one.
    """

    structure: Atoms
    copies: int
    device: str
    timings: tuple[ep.Timing, ...]
    timestep: float
    identities: Identities
    scaling: tuple[Scaling, ...] = ()
    largest_batch: tuple[LargestBatch, ...] = ()
    precisions: tuple[PrecisionErrors, ...] = ()
    written: Path | None = None

    def to_json(self) -> Any:
        """A list of the timings; where more was asked for, an object that has them beside it."""
        step = self.timestep
        timings = [
            {**each.to_json(), "timestep": step, "ns_per_day": each.nanoseconds_per_day(step)}
            | dict(self.identities[each.model])
            for each in self.timings
        ]
        more: dict[str, Sequence[Result]] = {
            "scaling": self.scaling,
            "largest_batch": self.largest_batch,
            "precisions": self.precisions,
        }
        asked = {name: [each.to_json() for each in found] for name, found in more.items() if found}
        return {"timings": timings, **asked} if asked else timings


@dataclass(frozen=True)
class OutOfMemory:
    """Models that ran out of memory on a GPU that had as much as they may need.

    Attributes:
        models: that were evaluated in turns.
        atoms: evaluated at once.
        available: bytes that the GPU had for them.
    """

    models: tuple[str, ...]
    atoms: int
    available: int

    def to_json(self) -> dict[str, Any]:
        found = {"models": list(self.models), "atoms": self.atoms, "available_bytes": self.available}
        return {"out_of_memory": found}


@dataclass(frozen=True)
class Benchmark(Request[Timed | OutOfMemory]):
    """Time models side by side, taking turns on the same structure.

    Attributes:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        data: the first structure is used; without it a rock-salt cell of 64 atoms.
        atoms: instead, as many copies of the largest structure at once as have at least so many atoms.
        dtype: precision of the models.
        engine: code that evaluates the models, each compared with upstream's own first: equiprune unless
            given, upstream, symmetrix for MACE, cuequivariance, openequivariance and flashtp on a GPU, where the
            model can have them, or several of them.
        repeats: timed evaluations per model, after two for warming up.
        timestep: fs, of dynamics whose ns/day are told, if evaluating was all there is to do.
        sizes: also time supercells of about so many atoms, three or more, and fit overhead and time per atom.
        plot: draw time against number of atoms (.png or .svg).
        largest_batch: also find the largest batch that fits into memory, and time it there.
        precision: also compare energies and forces with those in float64, on all structures, and the speeds: float32,
            on a CUDA GPU also tf32, bf16 and fp16.
        memory: that the largest batch may need, e.g. 8GB; that of a GPU unless given. With --atoms instead, that so
            many may need: a GPU that has as much, and runs out of it, is a result then.
        threads: of torch; its own choice unless given.
    """

    stage: ClassVar[Kind] = Kind(gives=Product.NUMBERS, product=RESULT)
    measures: ClassVar[bool] = True

    models: Models
    _: KW_ONLY
    data: Bare | None = None
    atoms: Positive | None = None
    dtype: Dtype = "float32"
    engine: EvaluationEngines | None = None
    repeats: Positive = 5
    timestep: float = 1.0
    sizes: Numbers | None = None
    plot: Annotated[Path | None, Mark.WRITTEN] = None
    largest_batch: Switch = False
    memory: str | None = None
    precision: Precisions | None = None
    threads: Positive | None = None
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_compared(self.models, self.device)
        self._engines()
        if not 0 < self.timestep < float("inf"):
            raise TargetError(f"`timestep` {self.timestep} is not possible: give a positive number of fs.")
        if self.sizes is not None:
            self._check_sizes(self.sizes)
        if self.plot is not None:
            check_suffix(self.plot, "A plot", ".png", ".svg")
            if self.sizes is None:
                raise TargetError("`plot` draws time against number of atoms: give `sizes`, such as 8 64 512.")
        self._check_memory()
        for precision in self._precisions():
            precision.check(self.device)

    def _check_memory(self) -> None:
        if self.memory is not None:
            read_bytes(self.memory)
            if not (self.largest_batch or self.atoms):
                raise TargetError("`memory` is what the largest batch, or `atoms`, may need: give one of them too.")
        elif self.largest_batch and self.device == "cpu":
            raise TargetError(
                "A CPU has no memory of its own that a batch could fill. Say how much it may need: give `memory`, such "
                "as 8GB."
            )

    @staticmethod
    def _check_sizes(sizes: Sequence[int]) -> None:
        if any(size < 1 for size in sizes):
            raise TargetError(f"`sizes` {min(sizes)} is not possible: give numbers of atoms, 1 or more.")
        if len(set(sizes)) < FEWEST_SIZES:
            raise TargetError(
                f"`sizes` {', '.join(map(str, sizes))}: a line with an error bar needs at least {FEWEST_SIZES} "
                "different numbers of atoms, such as 8 64 512."
            )

    def run(self, display: Display = unseen) -> Timed | OutOfMemory:
        """Time all models in turns.

        Raises:
            TargetError: memory is out, and the device does not have as much as the models may need.
        """
        if self.plot is not None:
            check_writable(self.plot)
            check_apart(self.plot, [self.data])
        potentials = open_models(self.models, self.dtype, self.opening, self.device)
        shared = frozenset.intersection(*(potential.elements for potential in potentials.values()))
        structures = self._structures(shared)
        atoms, copies = self._timed(structures)
        cells = supercells(structures[0], self.sizes) if self.sizes else []
        with threads_of_torch(self.threads):
            models = compared(potentials, self._engines(), atoms)
            how: dict[str, Any] = {"repeats": self.repeats, "warmup": WARM_UP}
            with display(Task("benchmark", (self.repeats + WARM_UP) * len(models) * (1 + len(cells)))) as [step]:
                try:
                    timings = timed(models, atoms, copies=copies, **how, progress=step)
                except Exception as error:
                    if not is_out_of_memory(error) or self.memory is None or self.largest_batch:
                        raise
                    return self._ran_out(copies * len(atoms), read_bytes(self.memory))
                lines = tuple(scaled(models, cells, **how, progress=step)) if cells else ()
            batches = self._batches(models, atoms, display) if self.largest_batch else ()
            errors = self._errors(potentials, [atoms] * copies, display) if self.precision else ()
        if self.plot is not None:
            plot_scaling(lines, self.plot)
        how_long, which = tuple(timings), identities(potentials)
        return Timed(atoms, copies, self.device, how_long, self.timestep, which, lines, batches, errors, self.plot)

    def _ran_out(self, atoms: int, allowed: float) -> OutOfMemory:
        """The outcome where that is the models' fault, and not the machine's."""
        available = obtainable_memory(torch.device(self.device))
        if available is None:
            raise TargetError(
                f"Out of memory with {atoms} atoms. Run it on a machine with more, or give fewer `atoms`."
            )
        if available < allowed:
            raise TargetError(
                f"Out of memory with {atoms} atoms: the GPU had {available / 1e9:.3g} GB for them, and `memory` is "
                f"{allowed / 1e9:.3g} GB. Run it on a GPU that has as much free, or give less `memory`."
            )
        return OutOfMemory(tuple(self.models), atoms, available)

    def _batches(
        self, models: Mapping[tuple[str, str], ep.Potential], atoms: Atoms, display: Display
    ) -> tuple[LargestBatch, ...]:
        memory = None if self.memory is None else int(read_bytes(self.memory))
        with display(Task("largest batch", None)) as [step]:
            found = largest_batches(models, self._engines(), atoms, memory=memory, repeats=self.repeats, progress=step)
        return tuple(found)

    def _errors(
        self, potentials: Mapping[str, ep.Potential], batch: Sequence[Atoms], display: Display
    ) -> tuple[PrecisionErrors, ...]:
        shared = frozenset.intersection(*(potential.elements for potential in potentials.values()))
        data = self.data
        structures = list(ep.read_structures(data)) if data else list(probe_structures(shared).values())
        precisions, engines = self._precisions(), self._engines()
        steps = len(structures) * (1 + len(precisions)) + self.repeats + 1
        with display(Task("precision", steps * len(potentials) * len(engines))) as [step]:
            found = precision_errors(
                potentials, structures, precisions, batch, engines=engines, repeats=self.repeats, progress=step
            )
        return tuple(found)

    def _precisions(self) -> list[Precision]:
        asked = dict.fromkeys(self.precision or [])
        if unknown := [name for name in asked if name not in PRECISIONS]:
            raise TargetError(f"`precision` '{unknown[0]}' is not possible: give {', '.join(PRECISIONS)}.")
        return [PRECISIONS[name] for name in asked]

    def _engines(self) -> list[EvaluationEngine]:
        return [engine_named(name) for name in dict.fromkeys(self.engine or [OWN.name])]

    def _structures(self, shared: frozenset[int]) -> list[Atoms]:
        """Structures of the data, as many as are needed; without data a rock-salt cell of 8 atoms."""
        if self.data is None:
            return [probe_structures(shared)["ionic"]]
        structures = ep.read_structures(self.data)
        return list(structures) if self.atoms else [next(structures)]

    def _timed(self, structures: Sequence[Atoms]) -> tuple[Atoms, int]:
        """The structure that is timed, and how many copies of it at once."""
        first = structures[0] if self.data else structures[0].repeat(2)
        if self.atoms is None:
            return first, 1
        timed = Conditions.of(structures if self.data else [first], self.atoms)
        return timed.atoms, timed.copies
