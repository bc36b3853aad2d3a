"""Speed and memory in a report: timings side by side, and time against number of atoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from equiprune.report import figures
from equiprune.report.numbers import NUMBERS
from equiprune.report.parts import NONE, Block, Figure, Table, shown
from equiprune.report.results import Benchmark, EstimateFound, ScalingFound, Speed
from equiprune.report.run_directory import RunDirectory

_MIB = 2**20


def speed(run: RunDirectory) -> Iterator[Block]:
    """Tables of timings, and time against number of atoms."""
    for timings in by_engine(run):
        first = timings[0]
        heads = [
            "model",
            "atoms/s",
            "speed",
            "ms/atom (min..max)",
            f"ns/day, {first.timestep:g} fs",
            "peak memory (MiB)",
        ]
        rows = []
        for model in timings:
            low, high = (1e3 * seconds / model.atoms for seconds in (model.seconds_min, model.seconds_max))
            memory = NONE if model.peak_memory_bytes is None else f"{model.peak_memory_bytes / _MIB:.0f}"
            ratio, rate = model.atoms_per_second / first.atoms_per_second, f"{model.atoms_per_second:.0f}"
            rows.append(
                [
                    run.name_of(model.model),
                    rate,
                    f"{ratio:.2f}x",
                    f"{1e3 / model.atoms_per_second:.2f} ({low:.2f}..{high:.2f})",
                    shown(model.ns_per_day),
                    memory,
                ]
            )
        title = f"Energy, forces and stress, models in turns: {conditions(first)}"
        yield Table(title, rows, heads)
    yield from _scaling(run)
    yield from _largest_batches(run)
    yield from _precisions(run)


def _scaling(run: RunDirectory) -> Iterator[Block]:
    heads = ["model", "engine", "overhead (ms)", "ms/atom", "overhead below half from", "exponent", "off the line"]
    for number_of, each in enumerate(found for found in run.of(Benchmark) if found.content.scaling):
        lines = each.content.scaling
        named = [(f"{run.name_of(line.model)}, {line.engine}", line) for line in lines]
        caption = (
            f"Time of one call against the number of atoms, with lines of overhead and time per atom: {each.place}."
        )
        times = list(_by_size(lines))
        numbers = Table(f"{NUMBERS}, ms", times, ["atoms", *(name for name, _ in named)])
        yield Figure(f"scaling-{number_of}", figures.scaling(named), caption, numbers)
        rows = [[run.name_of(line.model), line.engine, *_line(line)] for line in lines]
        yield Table("Time = overhead + time per atom x atoms, with standard errors", rows, heads)


def _largest_batches(run: RunDirectory) -> Iterator[Block]:
    heads = ["model", "engine", "one structure (ms)", "largest batch", "atoms", "atoms/s", "peak memory (MiB)"]
    for each in run.of(Benchmark):
        rows = [
            [
                run.name_of(found.model),
                found.engine,
                NONE if found.latency_seconds is None else shown(1e3 * found.latency_seconds),
                str(found.copies),
                str(found.atoms),
                NONE if found.atoms_per_second is None else f"{found.atoms_per_second:.0f}",
                f"{found.peak_memory_bytes / _MIB:.0f}",
            ]
            for found in each.content.largest_batch
        ]
        if rows:
            yield Table(f"The largest batches that fit into memory: {each.place}", rows, heads)


def _precisions(run: RunDirectory) -> Iterator[Block]:
    energy, forces = "energy, mean (largest), meV/atom", "forces, mean (largest), meV/Angstrom"
    heads = ["model", "engine", "precision", energy, forces, "speed, of float64's"]
    for each in run.of(Benchmark):
        rows = [
            [
                run.name_of(found.model),
                found.engine,
                found.precision,
                f"{shown(found.energy_mae)} ({shown(found.energy_max)})",
                f"{shown(found.forces_mae)} ({shown(found.forces_max)})",
                f"{found.speed:.2f}x",
            ]
            for found in each.content.precisions
        ]
        if rows:
            structures = each.content.precisions[0].structures
            yield Table(f"Differences from float64 on {structures} structures: {each.place}", rows, heads)


def _by_size(lines: Sequence[ScalingFound]) -> Iterator[list[str]]:
    """Times of one call (ms) at every size that any of them was timed at."""
    times = [{each.atoms: 1e3 * each.atoms / each.atoms_per_second for each in line.timings} for line in lines]
    for atoms in sorted({size for of in times for size in of}):
        yield [str(atoms), *(shown(of.get(atoms)) for of in times)]


def _line(line: ScalingFound) -> list[str]:
    half = "not determined" if line.half_overhead_atoms is None else f"{line.half_overhead_atoms:.0f} atoms"
    return [
        _estimate(line.overhead_ms) if line.overhead_determined else "not determined",
        _estimate(line.ms_per_atom) if line.per_atom_determined else "not determined",
        half,
        _estimate(line.exponent),
        f"{100 * line.largest_deviation:.0f} %",
    ]


def _estimate(found: EstimateFound) -> str:
    return f"{shown(found.value)} +- {'?' if found.error is None else shown(found.error)}"


def by_engine(run: RunDirectory) -> Iterator[Sequence[Speed]]:
    """Timings under one set of conditions, that can be compared."""
    for each in run.of(Benchmark):
        for engine in dict.fromkeys(model.engine for model in each.content.models):
            yield [model for model in each.content.models if model.engine == engine]


def conditions(timed: Speed) -> str:
    """Conditions of a timing, in words."""
    code = "equiprune's code" if timed.engine == "equiprune" else f"{timed.engine} code"
    return f"{timed.atoms} atoms, {timed.dtype}, {timed.backend}, {code}, {timed.threads} threads"
