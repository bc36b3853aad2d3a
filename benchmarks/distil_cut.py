"""Cut a model, repair it, and distil it on labels of its parent, on one core: how shipped models are made there.

``OMP_NUM_THREADS=1 python benchmarks/distil_cut.py nequix-compact FOLDER``: 20 minutes of labels, 70 of training; with
``--labelled FRAMES`` training alone, on frames that `equiprune label` wrote. It can be stopped at any time; the same
command goes on. FOLDER/trained/MODEL/model is the result. With ``--start MODEL --seed SEED`` it begins with a model
that was distilled before and takes other structures. Scores and repair take small frames of the MPtrj sample without
their labels, none of the fifth that is kept aside nor of a composition in it; what it is distilled on,
`benchmarks.gpu.structures` says.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from kept import kept
from on_one_core import distilled, distilled_on, shown_frames, written

import equiprune as ep
from benchmarks.gpu.distil import Distillation

LARGEST, USED = 14, 200
"""Atoms of a frame for the repair, and the number of those frames."""


@dataclass(frozen=True)
class Cut:
    """A model to cut, and what remains of it."""

    parent: str
    targets: Sequence[ep.Target]


CUTS: Mapping[str, Cut] = {
    "7net-compact": Cut("7net-l3i5", [ep.HiddenIrreps.parse("128x0e+64x1e+32x2e"), ep.EdgeLmax(2)]),
    "nequix-compact": Cut("nequix-oam-1", [ep.Lmax(2), ep.EdgeLmax(2)]),
    "mace-mp-compact": Cut("mace-mp-small", [ep.Channels(64)]),
}


def repaired(parent: ep.Potential, cut: Cut) -> ep.Potential:
    """The start of training."""
    used = shown_frames(LARGEST)[:USED]
    plan = ep.allocate(parent, cut.targets, ep.calibrate(parent, used, limit=60))
    return ep.repair(ep.prune(parent, plan), parent, used).potential


def main() -> None:
    """Prepare, label, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CUTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labelling-seconds", default="1150")
    parser.add_argument("--labelled", type=Path, help="frames with the parent's labels, in the place of labelling")
    parser.add_argument("--training-seconds", default="4200")
    parser.add_argument("--learning-rate", default="8e-4")
    parser.add_argument("--start", help="a model to begin with, in the place of the repaired one")
    parser.add_argument("--seed", type=int, default=11)
    chosen = parser.parse_args()
    cut = CUTS[chosen.model]
    parent = ep.load(cut.parent, dtype=torch.float64)
    start = ep.load(chosen.start) if chosen.start else None
    made_with = {"parent_sha256": parent.checkpoint.sha256, "start_sha256": start.checkpoint.sha256 if start else None}
    begun = chosen.folder / f"{chosen.model}-start"
    if not kept(begun, made_with):
        ep.save(start or repaired(parent, cut).with_dtype(torch.float32), begun)
    if chosen.labelled:
        recipe = Distillation(float(chosen.training_seconds), float(chosen.learning_rate), 128, seed=chosen.seed)
        distilled_on(chosen.labelled, ep.load(str(begun)), recipe, chosen.folder / "trained" / chosen.model)
        return
    written(parent, "parent", chosen.folder, chosen.seed)
    child = f"{chosen.model}={chosen.training_seconds}={chosen.learning_rate}"
    distilled(chosen.folder, "parent", child, chosen.labelling_seconds, chosen.seed)


if __name__ == "__main__":
    main()
