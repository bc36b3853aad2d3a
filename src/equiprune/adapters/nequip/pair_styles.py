"""Pair styles of NequIP: ``nequip`` of pair_nequip_allegro, for one process, and ML-IAP."""

from __future__ import annotations

from collections.abc import Iterator

from equiprune.adapters.nequip.architecture import NequIPArchitecture
from equiprune.adapters.nequip.checkpoint_file import SUFFIX
from equiprune.adapters.pair_style import ON_A_GPU, PairStyle


def pair_styles(_arch: NequIPArchitecture, file: str, _head: str | None) -> Iterator[PairStyle]:
    """``nequip`` alone wants Newton's third law off; files are compiled on the machine that runs them."""
    compiled, unified = (file.removesuffix(SUFFIX) + suffix for suffix in (".nequip.pt2", ".nequip.lmp.pt"))
    prepare = f"nequip-compile {file} {compiled} --mode aotinductor --device cpu --target pair_nequip"
    yield PairStyle("one process on a CPU", prepare, "nequip", (compiled,), ("newton      off",))
    prepare = f"nequip-prepare-lmp-mliap {file} {unified}"
    yield PairStyle("ML-IAP on a GPU", prepare, f"mliap unified {unified} 0", program=ON_A_GPU)
