"""Can a child beat its parent? SevenNet-l3i5 in SevenNet-0's architecture, taught by its parent and by Nequix OAM-1.

``OMP_NUM_THREADS=1 python benchmarks/teachers.py FOLDER``: each teacher labels structures for the same time, and each
child, which begins as the same cut without any training, learns for the same time. Prints errors against DFT of both
children beside the start, both teachers and the official small model. Training can be stopped at any time; the same
command goes on. What is taught, `benchmarks.gpu.structures` says; no frame that models are compared on is among it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from on_one_core import distilled, written

import equiprune as ep

TEACHERS = ("7net-l3i5", "nequix-oam-1")


def main() -> None:
    """Teach, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labelling-seconds", default="600")
    parser.add_argument("--training-seconds", default="1500")
    parser.add_argument("--learning-rate", default="2e-3")
    parser.add_argument("--frames", default="20", help="of each set, to compare on")
    parser.add_argument("--seed", type=int, default=61)
    chosen = parser.parse_args()
    teachers = {name: ep.load(name, dtype=torch.float64) for name in TEACHERS}  # both before any work
    for name, teacher in teachers.items():
        folder = chosen.folder / name
        written(teacher, "teacher", folder, chosen.seed)
        if not (folder / "child-start").exists():
            ep.save(start(), folder / "child-start")
        child = f"child={chosen.training_seconds}={chosen.learning_rate}"
        distilled(folder, "teacher", child, chosen.labelling_seconds, chosen.seed)
    taught = [str(chosen.folder / teacher / "trained" / "child" / "model") for teacher in TEACHERS]
    models = ["nequix-oam-1", str(chosen.folder / TEACHERS[0] / "child-start"), *taught]
    script = str(Path(__file__).with_name("official.py"))
    subprocess.run([sys.executable, script, *models, "--frames", chosen.frames], check=True)


def start() -> ep.Potential:
    """The parent without l = 3; there are no channels to choose, so that scores do not matter."""
    parent = ep.load("7net-l3i5", dtype=torch.float32)
    scores = ep.data_free_scores(parent, ep.Magnitude())
    return ep.prune(parent, ep.allocate(parent, [ep.Lmax(2), ep.EdgeLmax(2)], scores))


if __name__ == "__main__":
    main()
