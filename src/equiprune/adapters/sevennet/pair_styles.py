"""Pair styles of SevenNet: ``e3gnn`` and ``e3gnn/parallel`` of its patch of LAMMPS, and ML-IAP."""

from __future__ import annotations

from collections.abc import Iterator

from equiprune.adapters.pair_style import ON_A_GPU, PairStyle
from equiprune.adapters.sevennet.architecture import SevenNetArchitecture


def pair_styles(arch: SevenNetArchitecture, file: str, head: str | None) -> Iterator[PairStyle]:
    """One process first; the parallel style has one file of every interaction in a folder."""
    stem, level = file.removesuffix(".pth"), f" -m {head}" if head else ""
    deploy, segments = f"sevenn get_model {file}{level}", f"{stem}_parallel"
    yield PairStyle("one process", f"{deploy} -o {stem}.pt", "e3gnn", (f"{stem}.pt",))
    yield PairStyle(
        "several processes",
        f"{deploy} -p -o {segments}",
        "e3gnn/parallel",
        (str(arch.interactions), segments),
        program="mpirun -np 4 lmp",
    )
    mliap = f"{stem}_mliap.pt"
    yield PairStyle("ML-IAP on a GPU", f"{deploy} -mliap -o {mliap}", f"mliap unified {mliap} 0", program=ON_A_GPU)
