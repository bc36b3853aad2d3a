"""Speed and memory of models side by side on one device: energy, forces and stress of one crystal.

``python -m benchmarks.gpu.speed l3i5=PATH compact=PATH --engines cueq oeq e3nn --device cuda -o speed.json``. Models
take turns; neighbour lists are made before; each engine's forces are compared with e3nn's of the same model first, and
an engine that differs is reported and not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.build import bulk

from benchmarks.gpu.batched import Outputs, evaluate, with_engine
from benchmarks.gpu.engines import TOLERANCE
from equiprune import AtomicGraph
from equiprune.potentials.checkpoint import load
from equiprune.potentials.potential import Potential


def main() -> None:
    """Time every model with every engine on every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="NAME=PATH")
    parser.add_argument("--engines", nargs="+", default=["e3nn"])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 512, 4096])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args()
    paths = dict(entry.split("=", 1) for entry in chosen.models)
    rows: list[dict[str, Any]] = []
    for dtype in chosen.dtypes:
        for engine in chosen.engines:
            rows += _engine(paths, engine, getattr(torch, dtype), chosen)
    card = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else chosen.device
    if chosen.output:
        chosen.output.write_text(json.dumps({"device": card, "torch": torch.__version__, "rows": rows}, indent=1))


def _engine(paths: dict[str, str], engine: str, dtype: torch.dtype, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    try:
        stock = {name: load(path) for name, path in paths.items()}
        models = {name: with_engine(p, engine, chosen.device, dtype) for name, p in stock.items()}
        for name, model in models.items():
            _verify(model, with_engine(stock[name], "e3nn", chosen.device, dtype))
    except Exception as error:
        row = {"engine": engine, "dtype": str(dtype), "failed": repr(error)[:300]}
        print("speed", json.dumps(row), flush=True)
        return [row]
    return [row for size in chosen.sizes for row in _size(models, engine, size, chosen.repeats)]


def _verify(model: Potential, stock: Potential) -> None:
    graph = stock.graph([_crystal(64)])
    found, reference = evaluate(model, graph).forces, evaluate(stock, graph).forces
    error = float(((found - reference).abs().max() / reference.abs().max()).detach())
    if error > 10 * TOLERANCE:
        raise RuntimeError(f"Forces differ from e3nn's by {error:.1g} of the largest.")


def _crystal(atoms: int) -> Atoms:
    """NaCl, displaced by 0.1 Angstrom; as many atoms as asked for or a few more."""
    repeats, cells = [1, 1, 1], -(-atoms // 8)
    while repeats[0] * repeats[1] * repeats[2] < cells:
        repeats[repeats.index(min(repeats))] += 1
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(repeats)
    crystal.rattle(0.1, seed=0)
    return crystal


def _size(models: dict[str, Potential], engine: str, size: int, repeats: int) -> list[dict[str, Any]]:
    crystal, seconds, peaks, failed = _crystal(size), {n: [] for n in models}, {}, {}
    graph = next(iter(models.values())).graph([crystal])
    for repeat in range(-3, repeats):
        for name, model in models.items():
            if name in failed:
                continue
            try:
                spent, peak = _timed(model, graph)
            except torch.OutOfMemoryError:
                failed[name] = "out of memory"
                torch.cuda.empty_cache()
                continue
            peaks[name] = peak
            if repeat >= 0:
                seconds[name].append(spent)
    rows = [
        {
            "model": name,
            "engine": engine,
            "dtype": str(model.dtype).removeprefix("torch."),
            "atoms": len(crystal),
            "edges": graph.edge_index.shape[1],
            **({"failed": failed[name]} if name in failed else _numbers(len(crystal), seconds[name], peaks[name])),
        }
        for name, model in models.items()
    ]
    for row in rows:
        print("speed", json.dumps(row), flush=True)
    return rows


def _numbers(atoms: int, seconds: list[float], peak: int) -> dict[str, Any]:
    median = statistics.median(seconds)
    spread = {"seconds_min": min(seconds), "seconds_max": max(seconds), "repeats": len(seconds)}
    return {"seconds_median": median, **spread, "atoms_per_second": atoms / median, "peak_memory_bytes": peak}


def _timed(model: Potential, graph: AtomicGraph) -> tuple[float, int]:
    """Seconds of one evaluation, and on a GPU the most that the allocator held."""
    on_gpu = model.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    outputs: Outputs = evaluate(model, graph)
    if on_gpu:
        torch.cuda.synchronize()
    del outputs
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() if on_gpu else 0


if __name__ == "__main__":
    main()
