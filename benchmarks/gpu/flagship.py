"""Train the shipped models: label with the teacher for some time, then distil each child for some time.

``python -m benchmarks.gpu.flagship --models FOLDER --output FOLDER``. The first FOLDER holds l3i5, compact-start,
mini-start and starting-structures.npz (`prepare.py` writes them). It can be stopped at any time; the same command goes
on; other labels or another training of a child are refused. ``--small`` and ``--device cpu`` try it on any machine.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.batched import Crystals, Edges, with_engine
from benchmarks.gpu.distil import Distillation, distil, quickest
from benchmarks.gpu.explore import KEPT_STEPS, Labelled, explore, joined
from benchmarks.gpu.features import ParentFeatures
from benchmarks.gpu.pool import Pool
from benchmarks.gpu.stage import parsed
from benchmarks.gpu.structures import read_starting
from benchmarks.kept import kept
from equiprune.files.atomic import sha256_of
from equiprune.potentials.checkpoint import load
from equiprune.potentials.potential import Potential

_SMALL = {
    "labelling_seconds": 10.0,
    "labelling_atoms": 16,
    "children": ["compact=2=3e-3", "mini=2=4e-3"],
    "batch_atoms": [64],
}


def main(argv: Sequence[str] | None = None) -> None:
    """Label, then train every child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--teacher", default="l3i5", help="its name in that folder")
    parser.add_argument("--labelling-engine", default="e3nn")
    parser.add_argument("--training-engine", default="e3nn")
    parser.add_argument("--labelling-seconds", type=float, default=240)
    parser.add_argument("--labelling-atoms", type=int, default=12_000, help="of an evaluation")
    parser.add_argument("--children", nargs="+", default=["compact=800=3e-3", "mini=400=4e-3"])
    parser.add_argument("--batch-atoms", type=int, nargs="+", default=[1024, 2048], help="of a step; the best is taken")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parsed(parser, argv, _SMALL)
    if chosen.output is None:
        parser.error("--output FOLDER is needed.")
    labelling = _labelling(chosen)
    recipes = {name: _recipe(rest, chosen.seed) for name, *rest in (child.split("=") for child in chosen.children)}
    starts = {name: load(str(chosen.models / f"{name}-start")) for name in recipes}
    for name, recipe in recipes.items():  # all before any work; of the batches those asked for, since time chooses one
        asked = vars(recipe) | {"batch_atoms": chosen.batch_atoms, "start_sha256": starts[name].checkpoint.sha256}
        kept(chosen.output / name, labelling | asked)
    held_out, training = _labelled(chosen, labelling)
    print(f"{len(training.energy)} training and {len(held_out.energy)} validation structures", flush=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for name, recipe in recipes.items():
        cutoff = starts[name].architecture.cutoff
        pools = Pool(training.within(cutoff), cutoff), Pool(held_out.within(cutoff), cutoff)
        student = with_engine(starts[name], chosen.training_engine, chosen.device, torch.float32, plain=True)
        sizes = chosen.batch_atoms if student.device.type == "cuda" else chosen.batch_atoms[:1]  # no other records
        atoms = quickest(student, pools[0], sizes) if len(sizes) > 1 else sizes[0]
        features = _features(chosen, student, recipe)
        distil(student, *pools, replace(recipe, batch_atoms=atoms), chosen.output / name, features)


def _labelling(chosen: argparse.Namespace) -> dict[str, Any]:
    """Everything that labels depend on; engines and devices give the same but for rounding."""
    return {
        "teacher_sha256": load(str(chosen.models / chosen.teacher)).checkpoint.sha256,
        "structures_sha256": sha256_of(chosen.models / "starting-structures.npz"),
        **{name: getattr(chosen, name) for name in ("labelling_seconds", "labelling_atoms", "seed", "small")},
    }


def _recipe(words: Sequence[str], seed: int) -> Distillation:
    """That of seconds, learning rate and perhaps a weight of the parent's features."""
    seconds, rate, weight = (float(word) for word in (*words, "0")[:3])
    return Distillation(seconds, rate, seed=seed, features=weight)


def _features(chosen: argparse.Namespace, student: Potential, recipe: Distillation) -> ParentFeatures | None:
    """The parent's features where they have a weight; their size is that of some starting structures."""
    if not recipe.features:
        return None
    parent = with_engine(load(str(chosen.models / chosen.teacher)), "e3nn", chosen.device, torch.float32, plain=True)
    some = read_starting(chosen.models / "starting-structures.npz")[:64]
    return ParentFeatures(parent, student, some, recipe.features)


def _labelled(chosen: argparse.Namespace, made_with: Mapping[str, Any]) -> tuple[Labelled, Labelled]:
    """Validation and training structures with the teacher's labels; kept in a file of the output folder."""
    path = chosen.output / "labelled.pt"
    if kept(path, made_with):
        stored = torch.load(path, weights_only=True, map_location=chosen.device)
        return _from_dict(stored[0]), _from_dict(stored[1])
    parts = _explored(chosen)
    if len(parts) <= KEPT_STEPS:
        raise SystemExit("One descent gives no training structures: label for longer, or from more structures.")
    # Starting structures of the first descent have no frame in training.
    both = joined(parts[2:KEPT_STEPS:3]), joined(parts[KEPT_STEPS:])
    # A copy in the main memory is written meanwhile: gigabytes, and the GPU need not wait.
    copies = [_as_dict(labelled.to("cpu")) for labelled in both]
    threading.Thread(target=_write, args=(copies, path)).start()
    return both


def _write(stored: Any, path: Path) -> None:
    torch.save(stored, path.with_suffix(".partial"))
    path.with_suffix(".partial").rename(path)


def _explored(chosen: argparse.Namespace) -> list[Labelled]:
    teacher = with_engine(
        load(str(chosen.models / chosen.teacher)), chosen.labelling_engine, chosen.device, torch.float32
    )
    structures = read_starting(chosen.models / "starting-structures.npz")
    if chosen.small:
        structures = sorted(structures, key=len)[len(structures) // 4 :: max(1, len(structures) // 20)]
    print(f"{len(structures)} starting structures", flush=True)
    begun = shown = time.monotonic()
    parts = []
    for part in explore(teacher, structures, chosen.labelling_seconds, chosen.labelling_atoms, chosen.seed):
        parts.append(part)
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            frames, atoms = sum(len(p.energy) for p in parts), sum(len(p.forces) for p in parts)
            print(f"labelled {frames} structures, {atoms} atoms in {shown - begun:.0f} s", flush=True)
    return parts


def _as_dict(labelled: Labelled) -> dict[str, Any]:
    return vars(labelled) | {"crystals": vars(labelled.crystals), "edges": vars(labelled.edges)}


def _from_dict(stored: Mapping[str, Any]) -> Labelled:
    parts = {"crystals": Crystals(**stored["crystals"]), "edges": Edges(**stored["edges"])}
    return Labelled(**{**stored, **parts})


if __name__ == "__main__":
    main()
