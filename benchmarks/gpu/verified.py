"""Engines as users have them: each compared with upstream's code in float64, then all timed in turns.

``python -m benchmarks.gpu.verified compact=PATH --device cuda -o verified.json``. The comparison and the turns are
those of ``equiprune benchmark --engine``, with every engine of the model's architecture; one that is refused, or has no
memory for a size, is a row that says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from ase import Atoms

import equiprune as ep
from benchmarks.gpu.mace import fits
from benchmarks.gpu.speed import crystal
from benchmarks.gpu.stage import Record, parsed
from equiprune.errors import TargetError
from equiprune.evaluation.benchmark import timed
from equiprune.evaluation.engines import ENGINES, engine_named, engines_of, verified


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the engines of every model, and time those that are left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="NAME=PATH")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 512, 4096], help="atoms")
    parser.add_argument("--repeats", type=int, default=5, help="timed evaluations")
    chosen = parsed(parser, argv, {"sizes": [8], "repeats": 1})
    record = Record("verified", chosen.device, chosen.output)
    for name, path in (entry.split("=", 1) for entry in chosen.models):
        potential = ep.load(path, dtype=getattr(torch, chosen.dtype), device=chosen.device)
        engines = _compared(name, potential, crystal(64 if not chosen.small else 8), record)
        for size in chosen.sizes:
            for row in _timed(name, engines, crystal(size), chosen.repeats):
                record.add(row)


def _compared(name: str, potential: ep.Potential, atoms: Atoms, record: Record) -> dict[str, ep.Potential]:
    """The model as each engine evaluates it, by engine; refusals are rows."""
    found = {}
    for engine in (*ENGINES, *(each.name for each in engines_of(potential.adapter))):
        try:
            found[engine] = verified(engine_named(engine), potential, atoms)
        except TargetError as error:
            record.add({"model": name, "engine": engine, "refused": str(error)})
    return found


def _timed(name: str, engines: dict[str, ep.Potential], atoms: Atoms, repeats: int) -> list[dict]:
    fitting = {(name, engine): potential for engine, potential in engines.items() if fits(potential, atoms)}
    rows = [timing.to_json() for timing in timed(fitting, atoms, repeats=repeats)]
    left = [engine for engine in engines if (name, engine) not in fitting]
    return rows + [{"model": name, "engine": e, "atoms": len(atoms), "failed": "out of memory"} for e in left]


if __name__ == "__main__":
    main()
