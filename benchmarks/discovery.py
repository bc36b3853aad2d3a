"""Formation energies after relaxation, side by side: ``python benchmarks/discovery.py -o FOLDER``; goes on.

A sample of the 972 WBM structures of matcalc (BSD-3-Clause), which DFT has relaxed: a test of the pipeline, of errors
of formation energies and of how far models move away, not of the discovery task. SevenNet-l3i5, the models that come
with equiprune and SevenNet-0, unless others are named. With ``--rmsd`` also distances, which need pymatgen.
"""

import argparse
import os
import sys
from pathlib import Path

from reference_data import VARIABLE

from equiprune.cli import main as equiprune
from equiprune.models.shipped import shipped_models

SAMPLE = "wbm_sample/wbm_random_pbe52_equilibrium.extxyz.xz"


def main() -> int:
    """Print the tables of ``equiprune discovery``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["7net-l3i5", *shipped_models(), "7net-0"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=100, help="of 972")
    parser.add_argument("--steps", type=int, default=500, help="of a relaxation, at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rmsd", action="store_true")
    chosen = parser.parse_args()
    path = Path(os.environ.get(VARIABLE, ".")) / SAMPLE
    if not path.exists():
        sys.exit(f"This benchmark needs '{SAMPLE}' in the folder named by the environment variable {VARIABLE}.")
    words = ["discovery", *chosen.models, "--initial", path, "--sample", chosen.sample, "--steps", chosen.steps]
    words += ["--device", chosen.device, "--output", chosen.output, *(["--rmsd"] if chosen.rmsd else [])]
    return equiprune(list(map(str, words)))


if __name__ == "__main__":
    sys.exit(main())
