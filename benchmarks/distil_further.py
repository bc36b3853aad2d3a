"""Distil a model that comes with equiprune, or SevenNet-0, further, on new labels of a large parent, on one core.

``OMP_NUM_THREADS=1 python benchmarks/distil_further.py 7net-mini FOLDER --seed 41``: 20 minutes of labels, 65 of
training; or with ``--labelled FRAMES`` training alone, on frames that `equiprune label` wrote. Training can be stopped
at any time; the same command goes on. FOLDER/trained/MODEL/model is the result. What it labels,
`benchmarks.gpu.structures` says; frames that models are compared on are not among it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from kept import kept
from on_one_core import distilled, distilled_on, written

import equiprune as ep
from benchmarks.gpu.distil import Distillation

OFFICIAL = "7net-0"
"""A model trained from nothing, to compare with: its per-atom energies are its own, so that it learns totals."""
PARENTS = {
    "7net-mini": "7net-l3i5",
    "7net-compact": "7net-l3i5",
    "nequix-compact": "nequix-oam-1",
    "mace-mp-compact": "mace-mp-small",
    OFFICIAL: "7net-l3i5",
}
"""Models, and those whose labels they learn."""


def main() -> None:
    """Prepare, label, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=PARENTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labelling-seconds", default="1200")
    parser.add_argument("--labelled", type=Path, help="frames with the parent's labels, in the place of labelling")
    parser.add_argument("--training-seconds", default="3900")
    parser.add_argument("--learning-rate", default="1e-3")
    parser.add_argument("--seed", type=int, default=41)
    chosen = parser.parse_args()
    if chosen.model == OFFICIAL and not chosen.labelled:
        parser.error(f"{OFFICIAL} learns totals alone, which needs --labelled FRAMES.")
    if chosen.labelled:
        seconds, rate = float(chosen.training_seconds), float(chosen.learning_rate)
        recipe = Distillation(seconds, rate, 128, seed=chosen.seed)
        if chosen.model == OFFICIAL:
            recipe = replace(recipe, atomic_energy=0.0)
        start = ep.load(chosen.model, dtype=torch.float32)
        distilled_on(chosen.labelled, start, recipe, chosen.folder / "trained" / chosen.model)
        return
    written(ep.load(PARENTS[chosen.model], dtype=torch.float64), "parent", chosen.folder, chosen.seed)
    start = ep.load(chosen.model, dtype=torch.float32)
    if not kept(chosen.folder / f"{chosen.model}-start", {"start_sha256": start.checkpoint.sha256}):
        ep.save(start, chosen.folder / f"{chosen.model}-start")
    child = f"{chosen.model}={chosen.training_seconds}={chosen.learning_rate}"
    distilled(chosen.folder, "parent", child, chosen.labelling_seconds, chosen.seed)


if __name__ == "__main__":
    main()
