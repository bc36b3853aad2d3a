"""Pair styles of MACE: ``mace`` of its LAMMPS, and ML-IAP."""

from __future__ import annotations

from collections.abc import Iterator

from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.adapters.pair_style import ON_A_GPU, PairStyle

_SETTINGS = ("atom_modify map yes", "newton      on")


def pair_styles(arch: MaceArchitecture, file: str, head: str | None) -> Iterator[PairStyle]:
    """One process first; ML-IAP only for models that upstream's constructor builds, since its converter builds anew."""
    prepare = f"mace_create_lammps_model {file}" + (f" --head {head}" if head else "")
    converted = (f"{file}-lammps.pt",)
    yield PairStyle("one process", prepare, "mace no_domain_decomposition", converted, _SETTINGS)
    yield PairStyle("several processes", prepare, "mace", converted, _SETTINGS, "mpirun -np 4 lmp")
    if not arch.why_not_stock:
        unified = f"mliap unified {file}-mliap_lammps.pt 0"
        prepare_there = f"{prepare} --format mliap"
        yield PairStyle(
            "ML-IAP on a GPU, converted there", prepare_there, unified, settings=_SETTINGS, program=ON_A_GPU
        )
