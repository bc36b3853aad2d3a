"""Where the benchmarks find their structures."""

import os
import sys
from pathlib import Path

from ase import Atoms

from equiprune.structures.reading import read_structures

VARIABLE = "EQUIPRUNE_DATA"


def data_folder() -> Path:
    """The folder of the reference data."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        sys.exit(f"This benchmark needs reference data: name their folder in the environment variable {VARIABLE}.")
    return Path(folder)


def reference(name: str) -> list[Atoms]:
    """All structures of one file of the reference data, labels attached."""
    path = data_folder() / name
    if not path.exists():
        sys.exit(f"This benchmark needs '{name}' in the folder named by the environment variable {VARIABLE}.")
    return list(read_structures(path))


def mptrj(largest: int) -> list[Atoms]:
    """Frames of the MPtrj sample (MIT) with at most ``largest`` atoms, in file order; DFT labels attached."""
    return [atoms for atoms in reference("mptrj_sample/mptrj-random-1k.extxyz.xz") if len(atoms) <= largest]


def split_by_composition(structures: list[Atoms], first: int, second: int) -> tuple[list[Atoms], list[Atoms]]:
    """Two sets that share no composition: the first ``first`` frames, and ``second`` others."""
    head = structures[:first]
    seen = {atoms.get_chemical_formula(empirical=True) for atoms in head}
    rest = [a for a in structures[first:] if a.get_chemical_formula(empirical=True) not in seen]
    return head, rest[:second]
