"""Distilling on one core of a CPU what the benchmarks for a GPU distil there: the same code, smaller batches."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from kept import kept
from reference_data import data_folder, mptrj

import equiprune as ep

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks.gpu import flagship
from benchmarks.gpu.batched import with_engine
from benchmarks.gpu.distil import Distillation, distil
from benchmarks.gpu.explore import of_frames
from benchmarks.gpu.pool import Pool
from benchmarks.gpu.structures import compositions_aside, families_of, invented, known, not_aside, write_starting
from equiprune.files.atomic import sha256_of

_REAL, _INVENTED = 3_000, 3_000
"""Starting structures: real ones, and decorated ones with as many packed; one core labels some thousands."""


def shown_frames(largest: int) -> list[Atoms]:
    """Frames of the MPtrj sample of up to so many atoms that a model may see: not those on which it is tested."""
    return not_aside(mptrj(largest), data_folder())


def written(teacher: ep.Potential, name: str, folder: Path, seed: int) -> None:
    """The teacher under a name and starting structures of its elements, each unless it is there.

    Raises:
        SystemExit: those that are there are of another teacher or seed.
    """
    made_with = {"teacher_sha256": teacher.checkpoint.sha256, "seed": seed}
    if not kept(folder / name, made_with):
        ep.save(teacher.with_dtype(torch.float32), folder / name)
    if not kept(folder / "starting-structures.npz", made_with):
        random, data, elements = np.random.default_rng(seed), data_folder(), teacher.elements
        there = list(known(data, elements, random))
        chosen = [there[i] for i in random.permutation(len(there))[:_REAL]]
        chosen += invented(families_of(data, elements), compositions_aside(data), elements, _INVENTED, random)
        write_starting(chosen, folder / "starting-structures.npz")


def distilled(folder: Path, teacher: str, child: str, labelling_seconds: str, seed: int) -> None:
    """Label with the teacher of a folder, then distil a child; ``child`` is name=seconds=rate, name-start is there."""
    engines = f"--labelling-engine equiprune --training-engine equiprune --device cpu --teacher {teacher} --seed {seed}"
    sizes = f"--labelling-atoms 400 --batch-atoms 128 --labelling-seconds {labelling_seconds}"
    where = ["--models", str(folder), "--output", str(folder / "trained")]
    sys.argv = ["flagship", *where, *engines.split(), *sizes.split(), "--children", child]
    flagship.main()


def distilled_on(frames: Path, start: ep.Potential, recipe: Distillation, folder: Path) -> None:
    """Distil a child on frames that `equiprune label` wrote, the first 100 kept aside; folder/model is the result.

    Raises:
        SystemExit: the folder holds a run of another start, of other frames or of another recipe.
    """
    made_with = {"frames_sha256": sha256_of(frames), "start_sha256": start.checkpoint.sha256, **vars(recipe)}
    kept(folder, made_with)
    cutoff = start.architecture.cutoff
    labelled = list(ep.read_structures(frames))
    held_out, training = (Pool(of_frames(part, cutoff), cutoff) for part in (labelled[:100], labelled[100:]))
    distil(with_engine(start, "equiprune", "cpu", torch.float32, plain=True), training, held_out, recipe, folder)
