"""Physical properties, side by side: ``python benchmarks/properties.py -o FOLDER``; goes on.

Rest, equation of state, elastic moduli and phonons of a sample of the 3,953 binary crystals with elastic moduli by PBE
that come with matcalc (BSD-3-Clause), locality of the same, and pairs of every element against PBE (janosh/
matbench-discovery, MIT). SevenNet-l3i5, the models that come with equiprune and SevenNet-0, unless others are named;
in the environment of MACE name its models, for example mace-mp-small. Several processes share the work.
"""

import argparse
import os
import sys
from pathlib import Path

import ase.io
from reference_data import VARIABLE

import equiprune as ep
from equiprune.cli import main as equiprune
from equiprune.files.atomic import replacing
from equiprune.models.shipped import shipped_models

CRYSTALS = "mp_elasticity/mp_binary_pbe_elasticity.extxyz.xz"
CURVES = "diatomics_pbe/diatomics-dft.json.gz"
PROPERTIES = ("relaxation", "eos", "elasticity", "phonons", "locality", "dimers")


def main() -> int:
    """Print the tables of ``equiprune properties``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["7net-l3i5", *shipped_models(), "7net-0"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=50, help="of 3,953 crystals")
    parser.add_argument("--largest", type=int, help="atoms of a cell; the sample is of crystals without more")
    parser.add_argument("--properties", nargs="+", choices=PROPERTIES, default=list(PROPERTIES))
    parser.add_argument("--elements", help="of the pairs, e.g. Li,O; all that all models know, unless given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args()
    words = ["properties", *chosen.models, "--output", chosen.output, "--properties", *chosen.properties]
    if chosen.properties != ["dimers"]:
        words += ["--data", crystals(chosen.output, chosen.largest), "--sample", chosen.sample]
    if "dimers" in chosen.properties:
        words += ["--curves", data(CURVES), *(["--elements", chosen.elements] if chosen.elements else [])]
    return equiprune(list(map(str, [*words, "--device", chosen.device, "--processes", chosen.processes])))


def crystals(output: Path, largest: int | None) -> Path:
    """The crystals, or those with so many atoms at most in a file beside the output."""
    if largest is None:
        return data(CRYSTALS)
    path = output.with_name(f"{output.name}-crystals-{largest}.extxyz")
    if not path.exists():
        small = [atoms for atoms in ep.read_structures(data(CRYSTALS)) if len(atoms) <= largest]
        with replacing(path) as temporary:
            ase.io.write(temporary, small, format="extxyz")
    return path


def data(name: str) -> Path:
    """A file of the reference data; ends the program if it is not there."""
    path = Path(os.environ.get(VARIABLE, ".")) / name
    if not path.exists():
        sys.exit(f"This benchmark needs '{name}' in the folder named by the environment variable {VARIABLE}.")
    return path


if __name__ == "__main__":
    sys.exit(main())
