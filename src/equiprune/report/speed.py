"""Speed and memory in a report: timings side by side, and time against number of atoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from equiprune.report import figures
from equiprune.report.conditions import (
    ATOMS,
    DEVICE,
    DTYPE,
    THREADS,
    Conditions,
    conditions,
    said,
    some,
    threads,
)
from equiprune.report.numbers import NUMBERS
from equiprune.report.parts import NONE, Block, Figure, Table, shown
from equiprune.report.results import (
    Benchmark,
    EstimateFound,
    LargestBatchFound,
    PrecisionFound,
    ScalingFound,
    Speed,
)
from equiprune.report.run_directory import RunDirectory

_MIB = 2**20
_GB = 1e9
_HALVED = {0: "never halved", 1: "halved once"}


def speed(run: RunDirectory) -> Iterator[Block]:
    """Tables of timings, and time against number of atoms."""
    for each in run.of(Benchmark):
        if len(each.content.by_engine) > 1:
            yield _engines(run, each.content)
        for timings in each.content.by_engine:
            yield _timings(run, timings)
    yield from _scaling(run)
    yield from _largest_batches(run)
    yield from _precisions(run)


def _engines(run: RunDirectory, found: Benchmark) -> Table:
    """Speed of every model with every engine."""
    engines = [timings[0] for timings in found.by_engine]
    rows, of_rows = [], []
    for model in dict.fromkeys(timed.model for timed in found.models):
        timed = [found.timing_of(model, first.engine) for first in engines]
        rates = [_rate(each, first) for each, first in zip(timed, engines, strict=True)]
        rows.append([run.name_of(model), *rates])
        of_rows.append(some(conditions(next(filter(None, timed))), ATOMS, DTYPE, DEVICE, THREADS))
    parent = run.name_of(engines[0].model)
    title = f"Engines side by side, atoms/s, in parentheses the speed over that of {parent} with the same engine"
    return under_conditions(Table(title, rows, ["model", *(first.engine for first in engines)]), of_rows)


def _rate(timed: Speed | None, first: Speed) -> str:
    if timed is None:
        return NONE
    return f"{timed.atoms_per_second:.0f} ({timed.atoms_per_second / first.atoms_per_second:.2f}x)"


def _timings(run: RunDirectory, timings: Sequence[Speed]) -> Table:
    """Speed and memory of models with one engine."""
    first = timings[0]
    heads = [
        "model",
        "atoms/s",
        "speed",
        "ms/atom (min..max)",
        f"ns/day, {first.timestep:g} fs",
        "neighbour list (ms/atom)",
        "peak memory (MiB)",
    ]
    rows = [
        [
            run.name_of(model.model),
            f"{model.atoms_per_second:.0f}",
            f"{model.atoms_per_second / first.atoms_per_second:.2f}x",
            f"{shown(1e3 / model.atoms_per_second)} ({_per_atom(model, model.seconds_min)}.."
            f"{_per_atom(model, model.seconds_max)})",
            shown(model.ns_per_day),
            _per_atom(model, model.neighbour_list_seconds),
            _mebibytes(model.peak_memory_bytes),
        ]
        for model in timings
    ]
    title = "Energy, forces and stress, without the neighbour list, models in turns"
    return under_conditions(Table(title, rows, heads), [conditions(model) for model in timings])


def _per_atom(timed: Speed, seconds: float | None) -> str:
    return shown(None if seconds is None else 1e3 * seconds / timed.atoms)


def _mebibytes(number: int | None) -> str:
    return shown(None if number is None else number / _MIB)


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
        table = Table("Time = overhead + time per atom x atoms, with standard errors", rows, heads)
        yield under_conditions(table, [some(conditions(line.timings[0]), DTYPE, DEVICE, THREADS) for line in lines])


def _largest_batches(run: RunDirectory) -> Iterator[Block]:
    heads = ["model", "engine", "one structure (ms)", "largest batch", "did not fit", "atoms", "atoms/s"]
    for each in run.of(Benchmark):
        batches = each.content.largest_batch
        rows = [
            [
                run.name_of(found.model),
                found.engine,
                NONE if found.latency_seconds is None else shown(1e3 * found.latency_seconds),
                str(found.copies),
                "none tried" if found.refused is None else str(found.refused),
                str(found.atoms),
                NONE if found.atoms_per_second is None else f"{found.atoms_per_second:.0f}",
                _mebibytes(found.peak_memory_bytes if found.copies else None),
            ]
            for found in batches
        ]
        if rows:
            table = Table(
                f"The largest batches that fit into memory, {each.place}", rows, [*heads, "peak memory (MiB)"]
            )
            yield under_conditions(table, [_of_batch(found, each.content) for found in batches])


def _of_batch(found: LargestBatchFound, result: Benchmark) -> Conditions:
    """Conditions of a largest batch; the name of the device is that of the timing beside it."""
    timed = result.timing_of(found.model, found.engine)
    memory = "all memory of the device" if found.memory is None else f"at most {found.memory / _GB:.3g} GB"
    return {
        DTYPE: found.dtype,
        DEVICE: found.backend if timed is None else timed.device,
        THREADS: threads(found.threads),
        "memory": memory,
        "halved": f"{_HALVED.get(found.halved, f'halved {found.halved} times')} while timed",
    }


def _precisions(run: RunDirectory) -> Iterator[Block]:
    energy, forces = "energy, mean (largest), meV/atom", "forces, mean (largest), meV/Angstrom"
    heads = ["model", "engine", "precision", energy, forces, "speed, of float64's"]
    for each in run.of(Benchmark):
        compared = each.content.precisions
        rows = [
            [
                run.name_of(found.model),
                found.engine,
                found.precision,
                f"{shown(found.energy_mae)} ({shown(found.energy_max)})",
                f"{shown(found.forces_mae)} ({shown(found.forces_max)})",
                f"{found.speed:.2f}x",
            ]
            for found in compared
        ]
        if rows:
            table = Table(f"Differences from float64 on {compared[0].structures} structures, {each.place}", rows, heads)
            yield under_conditions(table, [_of_precision(found, each.content) for found in compared])


def _of_precision(found: PrecisionFound, result: Benchmark) -> Conditions:
    """Conditions of a comparison with float64: those of the timing beside it, on whose atoms the speed is."""
    timed = result.timing_of(found.model, found.engine)
    if timed is None:
        return {"timed": "", DEVICE: found.device, THREADS: ""}
    of = conditions(timed)
    return {"timed": f"timed on {of[ATOMS]}", **some(of, DEVICE, THREADS)}


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


def under_conditions(table: Table, of_rows: Sequence[Conditions]) -> Table:
    """A table that says the conditions of its rows: in its title what all share, in columns what differs.

    Args:
        table: without them.
        of_rows: conditions of each row, all of the same names.

    >>> table = Table("Speed", [["a", "1"], ["b", "2"]], ["model", "atoms/s"])
    >>> under_conditions(table, [{"dtype": "float32", "device": "cpu"}, {"dtype": "float32", "device": "cuda"}])
    Table(title='Speed: float32', rows=[['a', '1', 'cpu'], ['b', '2', 'cuda']], heads=['model', 'atoms/s', 'device'])
    """
    first = of_rows[0]
    differing = [name for name in first if any(of[name] != first[name] for of in of_rows)]
    shared = said({name: value for name, value in first.items() if name not in differing})
    rows = [[*row, *some(of, *differing).values()] for row, of in zip(table.rows, of_rows, strict=True)]
    return Table(": ".join(filter(None, (table.title, shared))), rows, [*table.heads, *differing])


def by_engine(run: RunDirectory) -> Iterator[Sequence[Speed]]:
    """Timings under one set of conditions, that can be compared."""
    for each in run.of(Benchmark):
        yield from each.content.by_engine
