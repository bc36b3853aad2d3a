"""Small random MACE models of every kind, to which every interaction contributes."""

from dataclasses import replace
from typing import Any

import torch
from plain_code import plain

from equiprune.adapters import Checkpoint, Taps, load_weights
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.architecture import (
    SILU_CONSTANT,
    Block,
    Interaction,
    MaceArchitecture,
    Readout,
    ReadoutKind,
    Transform,
    uniform,
)
from equiprune.adapters.mace.embeddings import Embedding
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.probes import probe_structures

LINEAR = Readout(ReadoutKind.LINEAR)
ELEMENTS = (1, 8, 11, 14, 17, 29)


def stock(channels: int = 4, lmax: int = 1, max_ell: int = 2, **changes: Any) -> MaceArchitecture:
    """A small model that upstream's constructor builds; ``changes`` override its hyperparameters."""
    small: dict[str, Any] = {
        "elements": ELEMENTS,
        "cutoff": 4.5,
        "radial_basis": 5,
        "cutoff_power": 5,
        "radial_widths": (8, 7),
        "avg_num_neighbors": 1.5,
        "readout_width": 5,
    }
    return uniform(channels, lmax, max_ell=max_ell, **{**small, **changes})


HETEROGENEOUS = MaceArchitecture(
    elements=ELEMENTS,
    cutoff=4.5,
    channels=5,
    radial_basis=5,
    cutoff_power=6,
    scale_shift=False,
    activation_constants={"silu": SILU_CONSTANT},
    steps=(
        Interaction(
            block=Block.PLAIN,
            edge_irreps="4x0e",
            edge_lmax=2,
            messages="4x0e+6x1o+2x2e",
            a_basis="3x0e+3x1o+3x2e",
            hidden_irreps="4x0e+2x1o+3x2e",
            correlation=3,
            radial_widths=(6, 9),
            avg_num_neighbors=1.5,
            readout=LINEAR,
        ),
        Interaction(
            block=Block.DENSITY_RESIDUAL,
            edge_irreps="3x0e+4x1o+2x2e",
            edge_lmax=1,
            a_basis="4x0e+4x1o",
            hidden_irreps="5x0e+3x1o",
            correlation=2,
            radial_widths=(7,),
            avg_num_neighbors=1.0,
            readout=Readout(ReadoutKind.NONLINEAR, 6),
        ),
    ),
)

_TWO_HEADS = {
    "transform": Transform.AGNESI,
    "pair_repulsion": True,
    "per_head": ("atomic_energies", "scale", "shift"),
}
"""Settings of the newer foundation models."""

_WIDE = stock(
    max_ell=1,
    correlation=2,
    first=Block.GATED,
    others=Block.GATED,
    apply_cutoff=False,
    agnostic_product=True,
    heads=("omat", "omol"),
    **_TWO_HEADS,
)
GATED = replace(
    _WIDE, steps=(replace(_WIDE.steps[0], edge_irreps="3x0e"), replace(_WIDE.steps[1], edge_irreps="3x0e+3x1o"))
)
"""As MACE-MH: more channels in the features than in what enters the convolution."""

_CHARGED = stock(
    max_ell=1,
    correlation=2,
    first=Block.GATED,
    others=Block.GATED,
    apply_cutoff=False,
    head_name="omol",
    embeddings=(Embedding("total_spin", 6, classes=7), Embedding("total_charge", 5, classes=9, offset=4)),
)
CHARGED = replace(_CHARGED, steps=(_CHARGED.steps[0], replace(_CHARGED.steps[1], edge_irreps="3x0e+3x1o")))
"""As MACE-OMOL: gated interactions, charge and spin in tables; two interactions instead of three, for time."""

KINDS = {
    "residual, L=2": stock(lmax=2),
    "plain first block, three interactions, orders that differ, charge and spin, the species read out": stock(
        interactions=3,
        correlation=(3, 2, 2),
        first=Block.PLAIN,
        agnostic_product=True,
        embeddings=(Embedding("total_charge", 3), Embedding("total_spin", 4, classes=5)),
        embedding_readout=True,
    ),
    "density, ZBL, Agnesi, two heads, max_ell 3": stock(
        max_ell=3,
        correlation=2,
        first=Block.DENSITY,
        others=Block.DENSITY_RESIDUAL,
        heads=("pbe", "r2scan"),
        **_TWO_HEADS,
    ),
    "heterogeneous, not scaled": HETEROGENEOUS,
    "gated, features wider than those that enter the convolution": GATED,
}


def random_checkpoint(arch: MaceArchitecture, seed: int = 0) -> Checkpoint:
    """Upstream's own initialisation, with constants that differ, scaled so that all features are of order one.

    Products of up to three features vanish or explode otherwise, and a test would be blind to what vanishes.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    adapter = MaceAdapter()
    with plain():
        module = adapter.build(arch, torch.float64)
    weights = {}
    for name in adapter.layouts(arch):
        weights[name] = module.state_dict()[name].clone()
        noise = torch.randn(weights[name].shape, generator=generator, dtype=torch.float64)
        if name.endswith(("atomic_energies", "scale_shift.scale", "scale_shift.shift")):
            weights[name] = 1.5 + 0.3 * noise
        elif name.endswith((".alpha", ".beta")) or ".net." in name:  # upstream begins without density, nearly linear
            weights[name] = weights[name] + 0.3 * noise if ".net." in name else 1.2 + 0.3 * noise
        elif name.startswith("joint_embedding.project"):  # and with little of charge and spin
            weights[name] = 4 * weights[name]
        elif name.endswith(("source_embedding.weight", "target_embedding.weight")):  # and without species
            weights[name] = noise
    for t, step in enumerate(arch.steps):
        made = "linear_2" if step.block is Block.GATED else "linear" if step.block.residual else "skip_tp"
        _normalise(arch, module, weights, f"a_basis.{t}", [f"interactions.{t}.{made}.weight"])
        skip = [f"interactions.{t}.skip_tp.weight"] if step.block.residual else []
        _normalise(arch, module, weights, f"node_feats.{t + 1}", [f"products.{t}.linear.weight", *skip])
    return Checkpoint(arch, weights, licence="MIT", source=f"random MACE, seed {seed}")


def _normalise(arch: MaceArchitecture, module: Any, weights: dict, space: str, producers: list[str]) -> None:
    """Scale the weights that make a space, in place, so that its root mean square over the probes is one."""
    adapter, head, seen = MaceAdapter(), arch.heads[0] if arch.heads else None, []
    load_weights(module, weights)
    structures, inputs = list(probe_structures(arch.elements).values()), arch.global_inputs
    graph = AtomicGraph.from_structures(structures, arch.cutoff, torch.float64, inputs=inputs)

    def note(feature: torch.Tensor) -> torch.Tensor:
        seen.append(feature.detach())
        return feature

    adapter.evaluate(module, arch, graph, head, Taps(watched={space: note}))
    for name in producers:
        weights[name] /= seen[0].square().mean().sqrt()
