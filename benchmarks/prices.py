"""Predictions of the cost model for models that it has not seen: time and memory, with one price or with many.

Time is that of 64 atoms. Memory is that of 2,000, predicted from what tensors take for up to 256, and compared with
what a process of its own takes; before that a table says how both grow for the parent.

``python benchmarks/prices.py 7net-l3i5 --json FILE`` or, in the environment of MACE, ``python benchmarks/prices.py
mace-mp-small --json FILE``. Models of random widths and shapes are measured beside their parent, as a search measures
them; those in FILE are not measured again. Prices of work are fitted to some of them, drawn at random, and predict the
others. A kind of work has one price in all interactions, as in a search, or one in each.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import kept
from reference_data import mptrj

import equiprune as ep
from equiprune.evaluation.memory import tensor_memory
from equiprune.files.atomic import write_text
from equiprune.pruning.counts import PruningProblem
from equiprune.searching.candidates import drawn
from equiprune.searching.cost_model import Conditions, CostModel, Measurement, measured, memory_line
from equiprune.searching.process_memory import nearest, peak_of
from equiprune.searching.shapes import shapes
from equiprune.searching.work import work

ATOMS, MANY_ATOMS = 64, 2000
SIZES = 64, 256, 1024, 3200
PRICES = {"one price in all interactions": work, "a price in each": partial(work, each=True)}


@dataclass(frozen=True)
class Measured:
    """A model that was measured; ``peak`` is the memory of the process for many atoms, in bytes."""

    plan: ep.PruningPlan
    architecture: Any
    measurement: Measurement
    peak: float

    @property
    def tensors(self) -> float:
        """Bytes of the tensors of as many atoms, from the line through two smaller numbers of them."""
        assert self.measurement.memory is not None
        return self.measurement.memory.of(MANY_ATOMS)


def print_growth(parent: ep.Potential) -> None:
    """Print memory per atom by the number of atoms: of the tensors, and of the process."""
    timed = Conditions.of(mptrj(16)[:100], ATOMS)
    line = memory_line(parent, timed)
    assert line is not None
    print("| atoms | tensors, MiB/atom | their line from 256, MiB/atom | the process, MiB/atom |\n|---|---|---|---|")
    for atoms in SIZES:
        graph = parent.graph([timed.atoms] * timed.copies_of(atoms))
        tensors = tensor_memory(partial(parent.differentiate, graph), parent.device)
        process = statistics.median(_peak(parent, timed, atoms) for _ in range(3))
        cells = [f"{size / atoms / 2**20:.2f}" for size in (tensors, line.of(atoms), process)]
        print(f"| {atoms} | {' | '.join(cells)} |", flush=True)
    print()


def found(parent: ep.Potential, count: int, repeats: int, path: Path) -> list[Measured]:
    """So many models, those of the file first; written after each."""
    shrink = partial(parent.adapter.shrink, parent.architecture)
    stored = json.loads(path.read_text()) if path.exists() else []
    models = [_read(each, shrink) for each in stored]
    timed = Conditions.of(mptrj(16)[:100], ATOMS)
    for plan in _plans(parent, len(models), count):
        child = ep.prune(parent, plan)
        cost = measured(parent, child, timed, repeats)
        models.append(Measured(plan, shrink(plan), cost, _peak(child, timed, MANY_ATOMS)))
        write_text(path, json.dumps(list(map(_written, models))))
        print(f"{len(models)} of {count}: {cost.time:.3f} of the parent's time", flush=True)
    return models[:count]


def _peak(model: ep.Potential, timed: Conditions, atoms: int) -> float:
    """Bytes of a process of its own, however many."""
    found = peak_of(model, timed, timed.copies_of(atoms), math.inf)
    if found is None:
        raise SystemExit(f"{atoms} atoms need more memory than this machine has free.")
    return found


def _read(stored: Any, shrink: Callable[[ep.PruningPlan], Any]) -> Measured:
    plan = ep.PruningPlan.from_json(stored["plan"])
    return Measured(plan, shrink(plan), Measurement.from_json(stored["cost"]), stored["peak"])


def _written(model: Measured) -> dict[str, Any]:
    return {"plan": model.plan.to_json(), "cost": model.measurement.to_json(), "peak": model.peak}


def _plans(parent: ep.Potential, first: int, count: int) -> Iterator[ep.PruningPlan]:
    model = PruningProblem(parent.adapter, parent.architecture, parent.spaces)
    every = shapes(model)
    for number in range(first, count):
        yield drawn(model, (), every, np.random.default_rng([77, number]))


def errors(parent: ep.Potential, models: Sequence[Measured], seen: int, draws: int, prices: Any) -> Mapping[str, Any]:
    """Relative errors of models left out, over draws of those that are seen; of the time and of the memory."""
    found: dict[str, list[float]] = {"time": [], "memory of the tensors": [], "memory of the process": []}
    itself = Measurement(prices(parent.adapter, parent.architecture), 1.0, None, 0.0)
    costs = [replace(each.measurement, work=prices(parent.adapter, each.architecture)) for each in models]
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(models))
        given = (itself, *(costs[i] for i in order[:seen]))
        model = CostModel(parent.adapter, parent.architecture, given, MANY_ATOMS, work=prices)
        for i in order[seen:]:
            predicted = model(models[i].architecture)
            found["time"].append(abs(predicted.time / costs[i].time - 1))
            if predicted.bytes_per_atom is not None:
                tensors = predicted.bytes_per_atom * MANY_ATOMS
                peak = tensors * _overhead([models[i] for i in order[:seen]], tensors)
                found["memory of the tensors"].append(abs(tensors / models[i].tensors - 1))
                found["memory of the process"].append(abs(peak / models[i].peak - 1))
    return found


def _overhead(seen: Sequence[Measured], tensors: float) -> float:
    """Memory of the process over that of its tensors, of the models that a search would measure it on."""
    chosen = nearest({i: each.tensors for i, each in enumerate(seen)}, tensors)
    return statistics.median(seen[i].peak / seen[i].tensors for i in chosen)


def main() -> None:
    """Print a row for the time and the memory with each kind of prices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("7net-l3i5", "mace-mp-small"))
    parser.add_argument("--models", type=int, default=60, help="that are measured")
    parser.add_argument("--seen", type=int, default=20, help="of them, to which prices are fitted")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each model beside its parent")
    parser.add_argument("--json", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    parent = ep.load(chosen.model)
    kept(chosen.json, {"parent_sha256": parent.checkpoint.sha256, "repeats": chosen.repeats})
    print_growth(parent)
    models = found(parent, chosen.models, chosen.repeats, chosen.json)
    spread = np.median([each.measurement.spread for each in models])
    print(f"\n{len(models)} models, {chosen.seen} seen, {chosen.draws} draws; timings vary by {spread:.1%} (median)\n")
    print("| error of | prices | median | nine of ten below | within 10 % |\n|---|---|---|---|---|")
    for name, prices in PRICES.items():
        for of, each in errors(parent, models, chosen.seen, chosen.draws, prices).items():
            if each:
                within = np.mean(np.array(each) <= 0.1)
                cells = f"{np.median(each):.1%} | {np.quantile(each, 0.9):.1%} | {within:.0%}"
                print(f"| {of} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
