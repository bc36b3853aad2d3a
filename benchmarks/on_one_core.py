"""Distilling on one core of a CPU what the benchmarks for a GPU distil there: the same code, smaller batches."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from reference_data import data_folder

import equiprune as ep

ROOT = Path(__file__).parents[1]


def written(teacher: ep.Potential, name: str, folder: Path) -> None:
    """The teacher under a name and starting structures of its elements, each unless it is there."""
    sys.path.append(str(ROOT))
    from benchmarks.gpu.structures import starting_structures, write_starting

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / name).exists():
        ep.save(teacher.with_dtype(torch.float32), folder / name)
    if not (folder / "starting-structures.npz").exists():
        structures = list(starting_structures(data_folder(), teacher.elements, 30_000, seed=0))
        write_starting(structures, folder / "starting-structures.npz")


def distilled(folder: Path, teacher: str, child: str, labelling_seconds: str, seed: int) -> None:
    """Label with the teacher of a folder, then distil a child; ``child`` is name=seconds=rate, name-start is there."""
    from benchmarks.gpu import flagship

    engines = f"--labelling-engine equiprune --training-engine equiprune --device cpu --teacher {teacher} --seed {seed}"
    sizes = f"--labelling-atoms 400 --batch-atoms 128 --labelling-seconds {labelling_seconds}"
    where = ["--models", str(folder), "--output", str(folder / "trained")]
    sys.argv = ["flagship", *where, *engines.split(), *sizes.split(), "--children", child]
    flagship.main()
