"""Speed of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

from ase import Atoms

import equiprune as ep
from equiprune.commands.opening import check_compared, check_suffix, open_models
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Bare, Device, Dtype, EvaluationEngines, Models, Numbers, Positive
from equiprune.commands.request import Request
from equiprune.commands.stages import Mark
from equiprune.commands.threads import threads_of_torch
from equiprune.errors import TargetError
from equiprune.evaluation.benchmark import compared, timed
from equiprune.evaluation.engines import OWN, EvaluationEngine, engine_named
from equiprune.evaluation.scaling import FEWEST_SIZES, Scaling, scaled, supercells
from equiprune.evaluation.scaling_figure import plot_scaling
from equiprune.files.atomic import check_writable
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
        scaling: lines of time against the number of atoms.
        written: the picture of them, if there is one.
    """

    structure: Atoms
    copies: int
    device: str
    timings: tuple[ep.Timing, ...]
    timestep: float
    scaling: tuple[Scaling, ...] = ()
    written: Path | None = None

    def to_json(self) -> Any:
        """A list of the timings; where more was asked for, an object that has them beside it."""
        timings = [
            {**timing.to_json(), "timestep": self.timestep, "ns_per_day": timing.nanoseconds_per_day(self.timestep)}
            for timing in self.timings
        ]
        more = {"scaling": [each.to_json() for each in self.scaling]}
        asked = {name: found for name, found in more.items() if found}
        return {"timings": timings, **asked} if asked else timings


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
        sizes: also time supercells of about so many atoms, three or more, and fit overhead and time per atom.
        plot: draw time against number of atoms (.png or .svg).
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
    sizes: Numbers | None = None
    plot: Annotated[Path | None, Mark.WRITTEN] = None
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

    @staticmethod
    def _check_sizes(sizes: Sequence[int]) -> None:
        if min(sizes) < 1:
            raise TargetError(f"`sizes` {min(sizes)} is not possible: give numbers of atoms, 1 or more.")
        if len(set(sizes)) < FEWEST_SIZES:
            raise TargetError(
                f"`sizes` {', '.join(map(str, sizes))}: a line with an error bar needs at least {FEWEST_SIZES} "
                "different numbers of atoms, such as 8 64 512."
            )

    def run(self, display: Display = unseen) -> Timed:
        """Time all models in turns."""
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
                timings = timed(models, atoms, copies=copies, **how, progress=step)
                found = tuple(scaled(models, cells, **how, progress=step)) if cells else ()
        if self.plot is not None:
            plot_scaling(found, self.plot)
        return Timed(atoms, copies, self.device, tuple(timings), self.timestep, found, self.plot)

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
