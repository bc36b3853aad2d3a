"""Copies of a structure in one batch of torch-sim beside ASE, which moves one after another.

``python benchmarks/batched_dynamics.py [MODEL ...]``; needs the extra ``torch-sim``. Rock salt of 8 atoms and water of
24 at constant energy, with the same velocities in both. Engines take turns: every round moves all copies by ASE and by
torch-sim, and the ratio is that of the two times of a round. Time is that of steps alone, without the first evaluation
and without writing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from dynamics import few_molecules, salt
from official import markdown

import equiprune as ep
from equiprune.evaluation.dynamics.engines import Engine, Moment, Moving

SYSTEMS = {"salt, 8 atoms": (salt, 2.0), "water, 24 atoms": (few_molecules, 0.5)}
"""Functions that make each, and its time step in fs."""


def moved(
    engine: Engine, potential: ep.Potential, start: Atoms, protocol: ep.DynamicsProtocol, steps: int
) -> tuple[float, Sequence[Moment]]:
    """Seconds for these steps of all copies, and where each of them is then."""
    copies = []
    for number in range(protocol.copies):
        atoms = start.copy()
        atoms.set_momenta(protocol.velocities(atoms, number))
        atoms.calc = potential.calculator()
        copies.append(Moving(atoms, protocol.conditions(0, number)))
    seconds, ends = 0.0, []
    for group in [copies] if engine.together else [[copy] for copy in copies]:
        moments = engine.batches(group, protocol.ensemble)
        began = time.perf_counter()
        *_, last = islice(moments, steps)
        seconds += time.perf_counter() - began
        ends += last
    return seconds, ends


def measured(potential: ep.Potential, system: str, copies: int, steps: int, rounds: int) -> dict[str, Any]:
    """Speeds of both engines, the ratio with its range over rounds, and how far positions are apart."""
    make, timestep = SYSTEMS[system]
    start, engines = make(), (ep.AseEngine(), ep.TorchSimEngine())
    protocol = ep.DynamicsProtocol(timestep=timestep, copies=copies)
    for engine in engines:
        moved(engine, potential, start, protocol, 2)
    seconds, apart = [], 0.0
    for number in range(rounds):
        order = engines if number % 2 == 0 else engines[::-1]
        taken = {engine.name: moved(engine, potential, start, protocol, steps) for engine in order}
        (ours, first), (theirs, second) = (taken[engine.name] for engine in engines)
        seconds.append((ours, theirs))
        places = [abs(a.atoms.positions - b.atoms.positions).max() for a, b in zip(first, second, strict=True)]
        apart = max(apart, *places)
    ase, batched = np.array(seconds).T
    ratios = ase / batched
    return {
        "system": system,
        "copies": copies,
        "ase_steps_per_second": copies * steps / float(np.median(ase)),
        "torch_sim_steps_per_second": copies * steps / float(np.median(batched)),
        "ratio": float(np.median(ratios)),
        "ratio_range": [float(ratios.min()), float(ratios.max())],
        "largest_difference_of_positions": float(apart),
    }


def row(name: str, found: dict[str, Any]) -> list[str]:
    low, high = found["ratio_range"]
    speeds = [f"{found[key]:.1f}" for key in ("ase_steps_per_second", "torch_sim_steps_per_second")]
    ratio = f"{found['ratio']:.2f} ({low:.2f} to {high:.2f})"
    return [
        name,
        found["system"],
        str(found["copies"]),
        *speeds,
        ratio,
        f"{found['largest_difference_of_positions']:.0e}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["7net-mini"], help="names or paths of models")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--steps", type=int, default=20, help="of every copy in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(
        f"{chosen.dtype}, {chosen.device}, {chosen.threads} threads, {chosen.rounds} rounds of {chosen.steps} steps\n"
    )
    head = ["model", "system", "copies", "ASE, steps/s", "torch-sim, steps/s", "ratio", "positions apart, Angstrom"]
    print(markdown(head, []))
    found = []
    for name in chosen.models:
        potential = ep.load(name, dtype=getattr(torch, chosen.dtype)).on(chosen.device)
        for system in SYSTEMS:
            for copies in chosen.copies:
                found.append({"model": name, **measured(potential, system, copies, chosen.steps, chosen.rounds)})
                print(f"| {' | '.join(row(name, found[-1]))} |", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps({**vars(chosen), "json": str(chosen.json), "found": found}, indent=1))


if __name__ == "__main__":
    main()
