"""Speed and memory, side by side: models take turns on the same structure, so a drifting machine drifts for all.

Times are CPU or GPU wall times of energy, forces and stress together; the spread says how far to trust them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from ase import Atoms

from equiprune.adapters.precision import dtype_name
from equiprune.evaluation.engines import OWN, EvaluationEngine, verified
from equiprune.evaluation.machine import device_name
from equiprune.evaluation.memory import peak_memory
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.structures.graph import AtomicGraph


@dataclass(frozen=True)
class Timing:
    """One model on one structure.

    Attributes:
        model: as it was named.
        engine: code that evaluated it.
        dtype, backend, batch, threads: the conditions.
        atoms: in all structures of the batch.
        seconds: of each repetition, one energy-forces-stress evaluation of the batch.
        peak_memory_bytes: while evaluating, or None; see `equiprune.evaluation.memory.peak_memory`.
        neighbour_list_seconds: of finding the neighbours, not in ``seconds``: the median of as many repetitions;
            None where it was not timed.
        device_name: the processor or card, as it calls itself.
    """

    model: str
    dtype: str
    backend: str
    batch: int
    threads: int
    atoms: int
    seconds: tuple[float, ...]
    peak_memory_bytes: int | None
    engine: str = OWN.name
    neighbour_list_seconds: float | None = None
    device_name: str = ""

    @property
    def median(self) -> float:
        """Seconds per evaluation."""
        return statistics.median(self.seconds)

    @property
    def peak_mebibytes(self) -> str:
        """Peak memory in MiB, for tables."""
        return "not measured" if self.peak_memory_bytes is None else f"{self.peak_memory_bytes / 2**20:.0f}"

    @property
    def atoms_per_second(self) -> float:
        """By the median."""
        return self.atoms / self.median

    def nanoseconds_per_day(self, timestep: float) -> float:
        """Dynamics of every structure of the batch with steps of so many fs, if evaluating was all there is to do.

        >>> Timing("m", "float32", "toy on cpu", 1, 1, 8, (0.1,), None).nanoseconds_per_day(2.0)
        1.728
        """
        return 86400 / self.median * timestep * 1e-6

    def to_json(self) -> dict[str, Any]:
        """Fields as above plus ``atoms_per_second``."""
        return {
            "model": self.model,
            "engine": self.engine,
            "dtype": self.dtype,
            "backend": self.backend,
            "device_name": self.device_name,
            "batch": self.batch,
            "threads": self.threads,
            "atoms": self.atoms,
            "atoms_per_second": self.atoms_per_second,
            "seconds_median": self.median,
            "seconds_min": min(self.seconds),
            "seconds_max": max(self.seconds),
            "repeats": len(self.seconds),
            "peak_memory_bytes": self.peak_memory_bytes,
            "neighbour_list_seconds": self.neighbour_list_seconds,
        }


def benchmark(
    potentials: Mapping[str, Potential],
    atoms: Atoms,
    *,
    copies: int = 1,
    repeats: int = 5,
    warmup: int = 2,
    engines: Sequence[EvaluationEngine] = (OWN,),
    progress: Progress = silent,
) -> list[Timing]:
    """Time every model with every engine on one structure, or on a batch of ``copies`` of it, taking turns.

    Args:
        potentials: by the names that results have.
        atoms: the structure.
        copies: of it, evaluated at once.
        repeats: timed evaluations, and timed neighbour lists.
        warmup: evaluations before, whose memory is measured.
        engines: code that evaluates the models, each compared with upstream's own first.
        progress: called once per evaluation.

    Raises:
        TargetError: an engine cannot evaluate a model, or gives other numbers than upstream's code.
    """
    prepared = compared(potentials, engines, atoms)
    return timed(prepared, atoms, copies=copies, repeats=repeats, warmup=warmup, progress=progress)


def compared(
    potentials: Mapping[str, Potential], engines: Sequence[EvaluationEngine], atoms: Atoms
) -> dict[tuple[str, str], Potential]:
    """Models as engines evaluate them, by names of model and engine, compared on a structure with upstream's code.

    Raises:
        TargetError: an engine cannot evaluate a model, or gives other numbers than upstream's code.
    """
    return {
        (name, engine.name): verified(engine, potential, atoms)
        for engine in engines
        for name, potential in potentials.items()
    }


def timed(
    potentials: Mapping[tuple[str, str], Potential],
    atoms: Atoms,
    *,
    copies: int = 1,
    repeats: int = 5,
    warmup: int = 2,
    progress: Progress = silent,
) -> list[Timing]:
    """The same for potentials, by names of model and engine, that were compared before."""
    graphs = {key: potential.graph([atoms] * copies) for key, potential in potentials.items()}
    finding = _seconds_of_neighbours(potentials, [atoms] * copies, repeats)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in potentials}
    peaks: dict[tuple[str, str], int | None] = dict.fromkeys(potentials)
    for repeat in range(-warmup, repeats):
        for key, potential in potentials.items():
            if repeat < -1:
                potential.differentiate(graphs[key])
            elif repeat == -1:
                peaks[key] = peak_memory(partial(potential.differentiate, graphs[key]), potential.device)
            else:
                seconds[key].append(seconds_of(potential, graphs[key]))
            progress(1)
    return [
        Timing(
            model=key[0],
            engine=key[1],
            dtype=dtype_name(potential.dtype),
            backend=f"{potential.adapter.name} on {potential.device.type}",
            batch=copies,
            threads=torch.get_num_threads(),
            atoms=len(atoms) * copies,
            seconds=tuple(seconds[key]),
            peak_memory_bytes=peaks[key],
            neighbour_list_seconds=statistics.median(finding[key]),
            device_name=device_name(potential.device),
        )
        for key, potential in potentials.items()
    ]


def seconds_of(potential: Potential, graph: AtomicGraph) -> float:
    """Seconds of one evaluation of energies, forces and stress."""
    _wait_for(potential.device)
    start = time.perf_counter()
    potential.differentiate(graph)
    _wait_for(potential.device)
    return time.perf_counter() - start


def _seconds_of_neighbours(
    potentials: Mapping[tuple[str, str], Potential], structures: Sequence[Atoms], repeats: int
) -> Mapping[tuple[str, str], Sequence[float]]:
    """Seconds of neighbour lists, up to the graph on the potential's device; potentials take turns here as well."""
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in potentials}
    for _ in range(repeats):
        for key, potential in potentials.items():
            start = time.perf_counter()
            potential.graph(structures)
            _wait_for(potential.device)
            seconds[key].append(time.perf_counter() - start)
    return seconds


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(timings: list[Timing], timestep: float = 1.0) -> list[list[str]]:
    """Rows for display; speed is relative to the first model, ns/day are for a time step in fs."""
    heads = [
        "model",
        "engine",
        "ms/atom (min..max)",
        "atoms/s",
        "speed",
        f"ns/day, {timestep:g} fs",
        "neighbour list, ms/atom",
        "peak memory, MiB",
    ]
    rows = [[*heads, "dtype", "threads", "atoms"]]
    for timing in timings:
        finding = timing.neighbour_list_seconds
        per_atom = [s / timing.atoms * 1e3 for s in (timing.median, min(timing.seconds), max(timing.seconds))]
        rows.append(
            [
                timing.model,
                timing.engine,
                f"{per_atom[0]:.1f} ({per_atom[1]:.1f}..{per_atom[2]:.1f})",
                f"{timing.atoms_per_second:.0f}",
                f"{timings[0].median / timing.median:.2f}x",
                f"{timing.nanoseconds_per_day(timestep):.3g}",
                "not timed" if finding is None else f"{finding / timing.atoms * 1e3:.3f}",
                timing.peak_mebibytes,
                timing.dtype,
                str(timing.threads),
                str(timing.atoms),
            ]
        )
    return rows
