"""Speed and memory of models side by side on one device: energy, forces and stress of one crystal.

``python -m benchmarks.gpu.speed l3i5=PATH compact=PATH --engines cueq oeq e3nn --device cuda -o speed.json``. Models
take turns; neighbour lists are made before; each engine's forces are compared with e3nn's of the same model first, and
an engine that differs is reported and not timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ase import Atoms
from ase.build import bulk

from benchmarks.gpu.batched import Outputs, evaluate, with_engine
from benchmarks.gpu.engines import TOLERANCE
from benchmarks.gpu.stage import Record, parsed
from equiprune import AtomicGraph
from equiprune.potentials.checkpoint import load
from equiprune.potentials.out_of_memory import is_out_of_memory
from equiprune.potentials.potential import Potential


def main(argv: Sequence[str] | None = None) -> None:
    """Time every model with every engine on every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="NAME=PATH")
    parser.add_argument("--engines", nargs="+", default=["e3nn"])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 512, 4096], help="atoms")
    parser.add_argument("--repeats", type=int, default=5, help="timed evaluations")
    chosen = parsed(parser, argv, {"sizes": [8], "repeats": 1})
    paths = dict(entry.split("=", 1) for entry in chosen.models)
    record = Record("speed", chosen.device, chosen.output)
    for dtype in chosen.dtypes:
        for engine in chosen.engines:
            _engine(paths, Kind(engine, getattr(torch, dtype), chosen.device), chosen.sizes, chosen.repeats, record)


@dataclass(frozen=True)
class Kind:
    """The code of models, of `benchmarks.gpu.batched.ENGINES`, their precision, and where they are."""

    engine: str
    dtype: torch.dtype
    device: str

    def of(self, potential: Potential) -> Potential:
        """A model in it, whose forces are those of e3nn.

        Raises:
            RuntimeError: they are not.
        """
        own = with_engine(potential, self.engine, self.device, self.dtype)
        _verify(own, with_engine(potential, "e3nn", self.device, self.dtype))
        return own

    @property
    def words(self) -> dict[str, str]:
        """As rows have it."""
        return {"engine": self.engine, "dtype": str(self.dtype).removeprefix("torch.")}


def _engine(paths: Mapping[str, str], kind: Kind, sizes: Sequence[int], repeats: int, record: Record) -> None:
    try:
        models = {name: kind.of(load(path)) for name, path in paths.items()}
    except Exception as error:  # the other engines are still worth timing
        record.add({**kind.words, "failed": repr(error)[:300]})
        return
    for size in sizes:
        for row in _size(models, kind, size, repeats):
            record.add(row)


def _verify(model: Potential, stock: Potential) -> None:
    graph = stock.graph([crystal(64)])
    found, reference = evaluate(model, graph).forces, evaluate(stock, graph).forces
    error = float(((found - reference).abs().max() / reference.abs().max()).detach())
    if error > 10 * TOLERANCE:
        raise RuntimeError(f"Forces differ from e3nn's by {error:.1g} of the largest.")


def crystal(atoms: int) -> Atoms:
    """NaCl, displaced by 0.1 Angstrom; as many atoms as asked for or a few more."""
    repeats, cells = [1, 1, 1], -(-atoms // 8)
    while repeats[0] * repeats[1] * repeats[2] < cells:
        repeats[repeats.index(min(repeats))] += 1
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(repeats)
    crystal.rattle(0.1, seed=0)
    return crystal


def _size(models: Mapping[str, Potential], kind: Kind, size: int, repeats: int) -> list[dict[str, Any]]:
    atoms = crystal(size)
    graph = next(iter(models.values())).graph([atoms])
    seconds, peaks, failed = {name: [] for name in models}, {}, {}
    for repeat in range(-3, repeats):
        for name in [name for name in models if name not in failed]:
            try:
                spent, peaks[name] = _timed(models[name], graph)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                failed[name] = "out of memory"
                torch.cuda.empty_cache()
                continue
            if repeat >= 0:
                seconds[name].append(spent)
    about = {**kind.words, "atoms": len(atoms), "edges": graph.edge_index.shape[1]}
    return [
        {
            "model": name,
            **about,
            **({"failed": failed[name]} if name in failed else _numbers(len(atoms), seconds[name], peaks[name])),
        }
        for name in models
    ]


def _numbers(atoms: int, seconds: Sequence[float], peak: int | None) -> dict[str, Any]:
    median = statistics.median(seconds)
    spread = {"seconds_min": min(seconds), "seconds_max": max(seconds), "repeats": len(seconds)}
    return {"seconds_median": median, **spread, "atoms_per_second": atoms / median, "peak_memory_bytes": peak}


def _timed(model: Potential, graph: AtomicGraph) -> tuple[float, int | None]:
    """Seconds of one evaluation, and on a GPU the most bytes that the allocator held."""
    on_gpu = model.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    outputs: Outputs = evaluate(model, graph)
    if on_gpu:
        torch.cuda.synchronize()
    del outputs
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() if on_gpu else None


if __name__ == "__main__":
    main()
