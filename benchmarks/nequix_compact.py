"""Make `nequix-compact`: Nequix OAM-1 cut to l up to 2, repaired, and distilled on its own labels on one core.

``OMP_NUM_THREADS=1 python benchmarks/nequix_compact.py FOLDER``: 20 minutes of labels, 70 of training. Training can be
stopped at any time; the same command goes on. FOLDER/trained/l2/model is the result. With ``--start MODEL --seed SEED``
it begins with a model that was distilled before and takes other structures. Scores and repair take small frames of the
MPtrj sample, four of five, without their labels; what it is distilled on, `benchmarks.gpu.structures` says.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from on_one_core import distilled, written
from reference_data import reference

import equiprune as ep

LARGEST, USED = 14, 200
"""Atoms of a frame for the repair, and the number of those frames."""


def repaired(parent: ep.Potential) -> ep.Potential:
    """The start of training."""
    frames = [atoms for atoms in reference("mptrj_sample/mptrj-random-1k.extxyz.xz") if len(atoms) <= LARGEST]
    used = [atoms for number, atoms in enumerate(frames) if number % 5][:USED]
    plan = ep.allocate(parent, [ep.Lmax(2), ep.EdgeLmax(2)], ep.calibrate(parent, used, limit=60))
    return ep.repair(ep.prune(parent, plan), parent, used).potential


def main() -> None:
    """Prepare, label, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labelling-seconds", default="1150")
    parser.add_argument("--training-seconds", default="4200")
    parser.add_argument("--learning-rate", default="8e-4")
    parser.add_argument("--start", help="a model to begin with, in the place of the repaired one")
    parser.add_argument("--seed", type=int, default=11)
    chosen = parser.parse_args()
    parent = ep.load("nequix-oam-1", dtype=torch.float64)
    written(parent, "oam", chosen.folder, chosen.seed)
    if not (chosen.folder / "l2-start").exists():
        start = ep.load(chosen.start) if chosen.start else repaired(parent).with_dtype(torch.float32)
        ep.save(start, chosen.folder / "l2-start")
    child = f"l2={chosen.training_seconds}={chosen.learning_rate}"
    distilled(chosen.folder, "oam", child, chosen.labelling_seconds, chosen.seed)


if __name__ == "__main__":
    main()
