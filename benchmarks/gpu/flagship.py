"""Train the shipped models: label with the teacher for some time, then distil each child for some time.

``python -m benchmarks.gpu.flagship --data DATA --models FOLDER --output FOLDER``. FOLDER holds l3i5, compact-start and
mini-start in equiprune's native format (`prepare.py` writes them). It can be stopped at any time; the same command goes
on. ``--small`` and ``--device cpu`` try it on any machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.batched import Crystals, with_engine
from benchmarks.gpu.distil import Distillation, Pool, distil
from benchmarks.gpu.explore import Labelled, explore, joined
from benchmarks.gpu.structures import starting_structures
from equiprune.potentials.checkpoint import load


def main() -> None:
    """Label, then train every child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--labelling-engine", default="e3nn")
    parser.add_argument("--training-engine", default="e3nn")
    parser.add_argument("--labelling-seconds", type=float, default=240)
    parser.add_argument("--neighbours", type=int, default=25_000, help="decorated compositions")
    parser.add_argument("--children", nargs="+", default=["compact=700=3e-3", "mini=400=4e-3"])
    parser.add_argument("--batch-atoms", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="few structures, to try it")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    held_out, training = _labelled(chosen)
    print(f"{len(training.energy)} training and {len(held_out.energy)} validation structures", flush=True)
    pools = Pool(training, chosen.device), Pool(held_out, chosen.device)
    for child in chosen.children:
        name, seconds, rate = child.split("=")
        start = load(str(chosen.models / f"{name}-start"))
        student = with_engine(start, chosen.training_engine, chosen.device, torch.float32)
        recipe = Distillation(float(seconds), float(rate), chosen.batch_atoms, seed=chosen.seed)
        distil(student, *pools, recipe, chosen.output / name)


def _labelled(chosen: argparse.Namespace) -> tuple[Labelled, Labelled]:
    """Validation and training structures with the teacher's labels; kept in a file of the output folder."""
    path = chosen.output / "labelled.pt"
    if not path.exists():
        teacher = with_engine(load(str(chosen.models / "l3i5")), chosen.labelling_engine, chosen.device, torch.float32)
        count = 200 if chosen.small else chosen.neighbours
        structures = list(starting_structures(chosen.data, teacher.elements, count, chosen.seed))
        if chosen.small:
            structures = sorted(structures, key=len)[200 :: len(structures) // 40]
        print(f"{len(structures)} starting structures", flush=True)
        begun, batch = time.monotonic(), 60 if chosen.small else 2500
        parts, shown = [], begun
        for part in explore(teacher, structures, chosen.labelling_seconds, batch, chosen.seed):
            parts.append(part)
            if time.monotonic() - shown > 15:
                shown = time.monotonic()
                frames, atoms = sum(len(p.energy) for p in parts), sum(len(p.forces) for p in parts)
                print(f"labelled {frames} structures, {atoms} atoms in {shown - begun:.0f} s", flush=True)
        aside = 1 if chosen.small else 8  # the first descent: its starting structures have no frame in training
        torch.save([_as_dict(joined(parts[:aside])), _as_dict(joined(parts[aside:]))], path)
    held_out, training = torch.load(path, weights_only=True)
    return _from_dict(held_out), _from_dict(training)


def _as_dict(labelled: Labelled) -> dict[str, Any]:
    return vars(labelled) | {"crystals": vars(labelled.crystals)}


def _from_dict(stored: Mapping[str, Any]) -> Labelled:
    return Labelled(**{**stored, "crystals": Crystals(**stored["crystals"])})


if __name__ == "__main__":
    main()
