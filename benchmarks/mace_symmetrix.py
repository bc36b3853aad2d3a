"""MACE on a CPU by stock e3nn code and by Symmetrix-XL: MACE-MP-0 small and what is pruned from it to 64 channels.

Energy, forces and stress of 64 atoms of rattled rock salt; models and engines take turns. Symmetrix is compared with
stock code in float64, and forces with finite differences, before anything is timed; the last columns are how far its
energy and forces are from stock code's in float64, in the precision that is timed. The engine symmetrix must be
installed (``pip install 'equiprune[mace,symmetrix]'``); a compiler makes its code when it meets a model for the first
time, so that a second run starts sooner.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

import equiprune as ep
from equiprune.evaluation.benchmark import Timing, timed
from equiprune.evaluation.engines import engine_named, verified

REAL = "mace-mp-small"
ENGINES = ("upstream", "symmetrix")


def models() -> dict[str, ep.Potential]:
    """The parent, and equal channels everywhere, the largest by magnitude; all in float64."""
    parent = ep.load(REAL, dtype=torch.float64)
    plan = ep.allocate(parent, [ep.Channels(64)], ep.data_free_scores(parent, ep.Magnitude()))
    return {"128 channels": parent, "64 channels": ep.prune(parent, plan)}


def rows(atoms: Atoms, dtype: torch.dtype, repeats: int) -> list[dict[str, Any]]:
    """Times and differences of every model by every engine, in one precision."""
    double = models()
    prepared = {
        (name, engine): verified(engine_named(engine), potential.with_dtype(dtype), atoms)
        for name, potential in double.items()
        for engine in ENGINES
    }
    timings = timed(prepared, atoms, repeats=repeats)
    return [_row(timing, double[timing.model], prepared[timing.model, timing.engine], atoms) for timing in timings]


def _row(timing: Timing, double: ep.Potential, timed_one: ep.Potential, atoms: Atoms) -> dict[str, Any]:
    [expected], [found] = double.as_upstream().predict([atoms]), timed_one.predict([atoms])
    return {
        **timing.to_json(),
        "ms_per_atom": timing.median / timing.atoms * 1e3,
        "energy_difference_eV_per_atom": abs(found.energy - expected.energy).item() / len(atoms),
        "forces_difference_eV_per_A": abs(found.forces - expected.forces).max().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    atoms = ep.probe_structures([11, 17])["ionic"].repeat(2)
    found = []
    print("dtype    model         engine     ms/atom (min..max)     speed  energy, eV/atom  forces, eV/Angstrom")
    for dtype in (torch.float32, torch.float64):
        table = rows(atoms, dtype, arguments.repeats)
        for row in table:
            low, high = (row[f"seconds_{end}"] / row["atoms"] * 1e3 for end in ("min", "max"))
            speed = table[0]["ms_per_atom"] / row["ms_per_atom"]
            print(
                f"{row['dtype']}  {row['model']:12}  {row['engine']:9}",
                f"{row['ms_per_atom']:6.2f} ({low:.2f}..{high:.2f})",
                f"{speed:9.2f}x  {row['energy_difference_eV_per_atom']:15.1e}",
                f"{row['forces_difference_eV_per_A']:19.1e}",
                flush=True,
            )
        found += table
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
