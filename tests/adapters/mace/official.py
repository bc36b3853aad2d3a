"""Official hyperparameters, for random weights: the models of arXiv 2605.08885, tables 2, 3, 9, 10, 11 and 21."""

from dataclasses import replace

from random_mace import stock

from equiprune.adapters.mace.architecture import Block, MaceArchitecture, Transform
from equiprune.adapters.mace.embeddings import Embedding

_Z89 = (*range(1, 84), *range(89, 95))
_ORGANIC = (1, 6, 7, 8, 9, 15, 16, 17, 35, 53)
_OFFICIAL = {"max_ell": 3, "radial_widths": (64, 64, 64), "readout_width": 16}


def mp(lmax: int, channels: int = 128, bessel: int = 10, interactions: int = 2) -> MaceArchitecture:
    """MACE-MP-0."""
    return stock(channels, lmax, elements=_Z89, cutoff=6.0, radial_basis=bessel, interactions=interactions, **_OFFICIAL)


def off(lmax: int, channels: int) -> MaceArchitecture:
    """MACE-OFF."""
    return stock(channels, lmax, elements=_ORGANIC, cutoff=5.0, radial_basis=8, first=Block.PLAIN, **_OFFICIAL)


def omat(lmax: int) -> MaceArchitecture:
    """MACE-OMAT-0."""
    return stock(
        128,
        lmax,
        elements=_Z89,
        cutoff=6.0,
        radial_basis=10,
        first=Block.DENSITY,
        others=Block.DENSITY_RESIDUAL,
        transform=Transform.AGNESI,
        pair_repulsion=True,
        per_head=("atomic_energies", "scale", "shift"),
        **_OFFICIAL,
    )


def omol(channels: int) -> MaceArchitecture:
    """MACE-OMOL-0 has 1024 channels (mace_omol/mace-omol.sh of ACEsuit/mace-foundations)."""
    made = stock(
        channels,
        2,
        elements=tuple(range(1, 84)),
        cutoff=6.0,
        radial_basis=8,
        interactions=3,
        correlation=2,
        first=Block.GATED,
        others=Block.GATED,
        apply_cutoff=False,
        head_name="omol",
        embeddings=(
            Embedding("total_spin", 1024, classes=101),
            Embedding("total_charge", 1024, classes=201, offset=100),
        ),
        **_OFFICIAL,
    )
    entering = [replace(step, edge_irreps="128x0e+128x1o+128x2e") for step in made.steps[1:]]
    return replace(made, steps=(made.steps[0], *entering))
