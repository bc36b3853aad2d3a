"""Predictions of the cost model for models that it has not seen: time and memory, with one price or with many.

``python benchmarks/prices.py 7net-l3i5 --json FILE`` or, in the environment of MACE, ``python benchmarks/prices.py
mace-mp-small --json FILE``. Models of random widths and shapes are measured beside their parent, as a search measures
them; those in FILE are not measured again. Prices of work are fitted to some of them, drawn at random, and predict the
others. A kind of work has one price in all interactions, as in a search, or one in each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import kept
from reference_data import mptrj

import equiprune as ep
from equiprune.files.atomic import write_text
from equiprune.pruning.counts import PruningProblem
from equiprune.searching.candidates import drawn
from equiprune.searching.cost_model import Conditions, CostModel, Measurement, measured
from equiprune.searching.shapes import shapes
from equiprune.searching.work import work

ATOMS = 64
PRICES = {"one price in all interactions": work, "a price in each": partial(work, each=True)}


@dataclass(frozen=True)
class Measured:
    """A model that was measured."""

    plan: ep.PruningPlan
    architecture: Any
    measurement: Measurement


def found(parent: ep.Potential, count: int, repeats: int, path: Path) -> list[Measured]:
    """So many models, those of the file first; written after each."""
    stored = json.loads(path.read_text()) if path.exists() else []
    plans = [(ep.PruningPlan.from_json(each["plan"]), Measurement.from_json(each["cost"])) for each in stored]
    timed = Conditions.of(mptrj(16)[:100], ATOMS)
    for plan in _plans(parent, len(plans), count):
        plans.append((plan, measured(parent, ep.prune(parent, plan), timed, repeats)))
        write_text(path, json.dumps([{"plan": p.to_json(), "cost": m.to_json()} for p, m in plans]))
        print(f"{len(plans)} of {count}: {plans[-1][1].time:.3f} of the parent's time", flush=True)
    shrink = parent.adapter.shrink
    return [Measured(plan, shrink(parent.architecture, plan), cost) for plan, cost in plans[:count]]


def _plans(parent: ep.Potential, first: int, count: int) -> Iterator[ep.PruningPlan]:
    model = PruningProblem(parent.adapter, parent.architecture, parent.spaces)
    every = shapes(model)
    for number in range(first, count):
        yield drawn(model, (), every, np.random.default_rng([77, number]))


def errors(parent: ep.Potential, models: Sequence[Measured], seen: int, draws: int, prices: Any) -> Mapping[str, Any]:
    """Relative errors of models left out, over draws of those that are seen; of the time and of the memory."""
    found: dict[str, list[float]] = {"time": [], "memory": []}
    itself = Measurement(prices(parent.adapter, parent.architecture), 1.0, None, 0.0)
    costs = [replace(each.measurement, work=prices(parent.adapter, each.architecture)) for each in models]
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(models))
        model = CostModel(parent.adapter, parent.architecture, (itself, *(costs[i] for i in order[:seen])), prices)
        for i in order[seen:]:
            predicted = model(models[i].architecture)
            found["time"].append(abs(predicted.time / costs[i].time - 1))
            if predicted.bytes_per_atom and costs[i].bytes_per_atom:
                found["memory"].append(abs(predicted.bytes_per_atom / costs[i].bytes_per_atom - 1))
    return found


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
