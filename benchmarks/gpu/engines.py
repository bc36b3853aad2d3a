"""Implementations of SevenNet's convolution: verified against e3nn first, then timed.

``python -m benchmarks.gpu.engines MODEL... --device cuda -o engines.json``. Each is tried in a process of its own,
since a kernel that fails can leave the device unusable.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.batched import ENGINES, Crystals, evaluate, graph, with_engine
from benchmarks.gpu.stage import Record, parsed
from equiprune.potentials.checkpoint import load
from equiprune.structures.probes import probe_structures

TOLERANCE = 2e-5
"""Error of forces relative to the largest that float32 allows an engine to differ from e3nn."""


_WARM_UP = 3
"""Evaluations before those that are timed."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of a measurement: device and amount.

    Attributes:
        device: of torch.
        copies: crystals of 16 atoms in a batch.
        repeats: timed evaluations, of which the median counts.
    """

    device: str
    copies: int
    repeats: int


def rows_of(engine: str, models: Sequence[Path], conditions: Conditions, seconds: float) -> list[dict[str, Any]]:
    """A row for each model: error against e3nn, seconds of an evaluation and of a training step, memory.

    What an engine has not done after so many ``seconds``, or could not do, is a row with ``failed``.
    """
    command = [sys.executable, "-m", "benchmarks.gpu.engines", "--one", engine, "--device", conditions.device]
    command += ["--copies", str(conditions.copies), "--repeats", str(conditions.repeats), *map(str, models)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        printed, failed = done.stdout, done.stderr[-1500:] if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        printed, failed = (error.stdout or b"").decode(), f"not done after {seconds:.0f} s"
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return rows + ([{"engine": engine, "failed": failed}] if failed else [])


def fastest(rows: Sequence[dict[str, Any]], model: str, what: str) -> str:
    """The engine with the least seconds for a model among those that agree with e3nn."""
    own = [row for row in rows if row.get("model") == model and "failed" not in row]
    agreeing = [row for row in own if max(row["forces_error"], row["weight_gradient_error"]) < 10 * TOLERANCE]
    return min(agreeing, key=lambda row: row[what])["engine"]


def measured(model: Path, conditions: Conditions, engine: str) -> dict[str, Any]:
    """One engine: agreement on a batch of small crystals, then times on all of them."""
    device = conditions.device
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    stock = load(str(model), device=device)
    own = with_engine(stock, engine, device, torch.float32)
    crystal = probe_structures(stock.elements)["ionic"].repeat((2, 1, 1))
    crystals = []
    for seed in range(conditions.copies):
        crystals.append(crystal.copy())
        crystals[-1].rattle(0.1, seed=seed)
    batch = graph(Crystals.of(crystals, device, torch.float32), stock.architecture.cutoff)
    small = graph(Crystals.of(crystals[:4], device, torch.float32), stock.architecture.cutoff)
    reference, found = evaluate(stock, small), evaluate(own, small)
    weight_error = _weight_gradient_error(stock, own, small)
    del stock

    def training_step() -> None:
        out = evaluate(own, batch, training=True)
        own.module.zero_grad(set_to_none=True)
        (out.forces.square().mean() + out.energy.square().mean()).backward()

    row = {
        "model": model.name,
        "engine": engine,
        "atoms": len(batch.numbers),
        "edges": batch.edge_index.shape[1],
        "forces_error": _relative(found.forces, reference.forces),
        "weight_gradient_error": weight_error,
        "energy_error_per_atom": float((found.energy - reference.energy).abs().max().detach() / len(crystal)),
        "evaluation_seconds": _seconds(lambda: evaluate(own, batch), conditions),
        "training_seconds": _seconds(training_step, conditions),
    }
    if device != "cpu":
        row["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    return row


def _weight_gradient_error(stock: Any, own: Any, small: Any) -> float:
    gradients = []
    for potential in (stock, own):
        potential.module.zero_grad(set_to_none=True)
        evaluate(potential, small, training=True).forces.square().sum().backward()
        weights = [p.grad.flatten() for _, p in sorted(potential.module.named_parameters()) if p.grad is not None]
        gradients.append(torch.cat(weights))
    return _relative(gradients[1], gradients[0])


def _relative(found: torch.Tensor, reference: torch.Tensor) -> float:
    return float(((found - reference).abs().max() / reference.abs().max()).detach())


def _seconds(work: Callable[[], object], conditions: Conditions) -> float:
    times = []
    for _ in range(conditions.repeats + _WARM_UP):
        if conditions.device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if conditions.device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[_WARM_UP:])[conditions.repeats // 2]


def main(argv: Sequence[str] | None = None) -> None:
    """Compare engines, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--copies", type=int, default=128, help="crystals of 16 atoms in a batch")
    parser.add_argument("--repeats", type=int, default=6, help="timed evaluations")
    parser.add_argument("--one", help="measure this engine in this process")
    parser.add_argument("--engines", nargs="+", default=ENGINES)
    parser.add_argument(
        "--limit", type=float, default=300, help="seconds of all engines; each has its share of the rest"
    )
    chosen = parsed(parser, argv, {"copies": 2, "repeats": 1})
    conditions = Conditions(chosen.device, chosen.copies, chosen.repeats)
    if chosen.one:
        for model in chosen.models:
            print(json.dumps(measured(model, conditions, chosen.one)), flush=True)
        return
    record, end = Record("engines", chosen.device, chosen.output), time.monotonic() + chosen.limit
    for number, engine in enumerate(chosen.engines):
        share = (end - time.monotonic()) / (len(chosen.engines) - number)
        for row in rows_of(engine, chosen.models, conditions, share):
            record.add(row)


if __name__ == "__main__":
    main()
