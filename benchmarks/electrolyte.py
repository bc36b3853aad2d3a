"""One command on one's own chemistry: 50 unlabelled frames of Li10GeP2S12, a model 8 times faster than l3i5.

``python benchmarks/electrolyte.py --output FOLDER`` runs ``equiprune compress`` and prints its page. Speeds are those
of SevenNet's own code, unless another ``--engine`` is given. Errors are against DFT (PBE) on 60 other frames of the
same dynamics, split at random by those who made the set; no label of DFT is used in training. A quarter of an hour on
one core; interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import ase.io
from ase import Atoms
from reference_data import reference

from equiprune.files.atomic import replacing

ARGUMENTS = (
    *("--elements", "Li,Ge,P,S", "--copies", "2", "--timed-atoms", "50", "--beside", "7net-0"),
    *("--measured", "16", "--candidates", "12", "--finalists", "2", "--steps", "60", "--epochs", "12"),
)


def main() -> None:
    """Write the frames and run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--faster", default="8")
    parser.add_argument("--engine", default="upstream")
    chosen = parser.parse_args()
    folder: Path = chosen.output
    folder.mkdir(parents=True, exist_ok=True)
    mine, test = folder / "mine.extxyz", folder / "test.extxyz"
    if not mine.exists():
        frames = reference("lgps_sse_pbe/train_50at.extxyz.xz")
        bare = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in frames[:: len(frames) // 50][:50]]
        others = reference("lgps_sse_pbe/test_50at.extxyz.xz")
        ase.io.write(test, others[:: len(others) // 60][:60], format="extxyz")
        with replacing(mine) as temporary:  # the last: it says that both are whole
            ase.io.write(temporary, bare, format="extxyz")
    command = [sys.executable, "-m", "equiprune", "compress", "7net-l3i5", "--data", str(mine), "--test", str(test)]
    budget = ["--faster", chosen.faster, "--engine", chosen.engine]
    begun = time.monotonic()
    subprocess.run([*command, *budget, *ARGUMENTS, "--output", str(folder / "compact")], check=True)
    print(f"{(time.monotonic() - begun) / 60:.0f} minutes (of this attempt)")


if __name__ == "__main__":
    main()
