"""Make `nequix-compact`: Nequix OAM-1 cut to l up to 2, repaired, and distilled on its own labels on one core.

``OMP_NUM_THREADS=1 python benchmarks/nequix_compact.py FOLDER``: 20 minutes of labels, 70 of training. Training can be
stopped at any time; the same command goes on. FOLDER/trained/l2/model is the result. With ``--start MODEL --seed SEED``
it begins with a model that was distilled before and takes other structures. Scores and repair take small frames of the
MPtrj sample, four of five, without their labels; what it is distilled on, `benchmarks.gpu.structures` says.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from reference_data import data_folder, reference

import equiprune as ep

ROOT = Path(__file__).parents[1]
LARGEST, USED = 14, 200
"""Atoms of a frame for the repair, and the number of those frames."""


def prepare_teacher(folder: Path) -> ep.Potential:
    """The teacher; it and starting structures are written, each unless it is there."""
    sys.path.append(str(ROOT))
    from benchmarks.gpu.structures import starting_structures, write_starting

    folder.mkdir(parents=True, exist_ok=True)
    teacher = ep.load("nequix-oam-1", dtype=torch.float64)
    if not (folder / "oam").exists():
        ep.save(teacher.with_dtype(torch.float32), folder / "oam")
    if not (folder / "starting-structures.npz").exists():
        structures = list(starting_structures(data_folder(), teacher.elements, 30_000, seed=0))
        write_starting(structures, folder / "starting-structures.npz")
    return teacher


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
    parent = prepare_teacher(chosen.folder)
    if not (chosen.folder / "l2-start").exists():
        start = ep.load(chosen.start) if chosen.start else repaired(parent).with_dtype(torch.float32)
        ep.save(start, chosen.folder / "l2-start")
    child = f"l2={chosen.training_seconds}={chosen.learning_rate}"
    run_flagship(chosen.folder, chosen.labelling_seconds, child, chosen.seed)


def run_flagship(folder: Path, labelling_seconds: str, child: str, seed: int) -> None:
    """Label with the teacher of a folder, then distil a child; ``child`` is name=seconds=rate, name-start is there."""
    from benchmarks.gpu import flagship

    engines = f"--labelling-engine equiprune --training-engine equiprune --device cpu --teacher oam --seed {seed}"
    sizes = f"--labelling-atoms 400 --batch-atoms 128 --labelling-seconds {labelling_seconds}"
    where = ["--models", str(folder), "--output", str(folder / "trained")]
    sys.argv = ["flagship", *where, *engines.split(), *sizes.split(), "--children", child]
    flagship.main()


if __name__ == "__main__":
    main()
