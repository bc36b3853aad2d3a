"""Distil `7net-compact` again, on the labels of a teacher that is not its parent: Nequix OAM-1. On one core of a CPU.

``OMP_NUM_THREADS=1 python benchmarks/second_teacher.py FOLDER``: 44 minutes of labels, 110 of training. Training can be
stopped at any time; the same command goes on. FOLDER/trained/compact/model is the result. What it is distilled on,
`benchmarks.gpu.structures` says: structures without labels of DFT, none of the frames that are kept aside.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from nequix_compact import prepare_teacher, run_flagship

from equiprune.models import shipped_models

STUDENT = "7net-compact"


def main() -> None:
    """Prepare, label, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--student", type=Path, default=shipped_models()[STUDENT], help="a model to begin with")
    parser.add_argument("--labelling-seconds", default="2650")
    parser.add_argument("--training-seconds", default="6600")
    chosen = parser.parse_args()
    prepare_teacher(chosen.folder)
    start = chosen.folder / "compact-start"
    if not start.exists():
        shutil.copytree(chosen.student, start)
    run_flagship(chosen.folder, chosen.labelling_seconds, f"compact={chosen.training_seconds}=6e-4", seed=21)


if __name__ == "__main__":
    main()
