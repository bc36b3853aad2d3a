"""The largest batch that fits, and the throughput there: parent, children and official small model.

``python -m benchmarks.gpu.batch l3i5=PATH compact=PATH --engines e3nn oeq --device cuda -o batch.json``. The search is
that of ``equiprune benchmark --largest-batch``: copies of one crystal of 64 atoms, doubled until memory is out, then
the gap halved. One model after another, so that what is done is written. A CPU needs ``--memory``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms

from benchmarks.gpu.speed import Kind, crystal
from benchmarks.gpu.stage import Record, parsed
from equiprune.evaluation.engines import OWN
from equiprune.evaluation.largest_batch import largest_batches
from equiprune.potentials.checkpoint import load


def main(argv: Sequence[str] | None = None) -> None:
    """Find it for every model with every engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="NAME=PATH")
    parser.add_argument("--engines", nargs="+", default=["e3nn"])
    parser.add_argument("--atoms", type=int, default=64, help="of the crystal")
    parser.add_argument("--repeats", type=int, default=3, help="timed evaluations of the largest batch")
    parser.add_argument("--memory", type=float, help="GB beyond the weights; those of a GPU unless given")
    chosen = parsed(parser, argv, {"atoms": 8, "repeats": 1, "memory": 0.05})
    record, atoms = Record("batch", chosen.device, chosen.output), crystal(chosen.atoms)
    for engine in chosen.engines:
        kind = Kind(engine, torch.float32, chosen.device)
        for name, path in (entry.split("=", 1) for entry in chosen.models):
            record.add({"model": name, **kind.words, **_largest(path, kind, atoms, chosen)})


def _largest(path: str, kind: Kind, atoms: Atoms, chosen: argparse.Namespace) -> dict[str, Any]:
    memory = None if chosen.memory is None else int(chosen.memory * 1e9)
    try:
        model = {("", OWN.name): kind.of(load(path))}
        [found] = largest_batches(model, [OWN], atoms, memory=memory, repeats=chosen.repeats)
    except Exception as error:  # the other models are still worth trying
        return {"failed": repr(error)[:300]}
    return {name: value for name, value in found.to_json().items() if name not in ("model", "engine", "dtype")}


if __name__ == "__main__":
    main()
