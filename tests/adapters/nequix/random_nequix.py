"""Small random Nequix models to which every layer contributes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from equiprune.adapters import Checkpoint
from equiprune.adapters.nequix import NequixAdapter
from equiprune.adapters.nequix.architecture import NequixArchitecture


def architecture(**changes: Any) -> NequixArchitecture:
    """Hyperparameters as upstream's published models have them, and smaller; ``changes`` override them."""
    usual = NequixArchitecture(
        elements=(1, 3, 8, 11, 14, 17, 29),
        cutoff=4.5,
        hidden_irreps="6x0e+4x1o+3x2e+2x3o",
        layers=3,
        first_channels=7,
        edge_lmax=3,
        radial_basis=5,
        radial_width=8,
        radial_layers=2,
        radial_power=6.0,
        radial_init_scale=4.0,
        average_neighbors=14.3,
        scale=0.8,
        shift=-4.3,
        layer_norm=True,
    )
    return replace(usual, **changes)


KINDS: Mapping[str, NequixArchitecture] = {
    "as published": architecture(),
    "no norm, harmonics of low l, one radial layer": architecture(
        layer_norm=False, edge_lmax=2, radial_layers=1, layers=2
    ),
    "a first layer of another width": architecture(first_channels=4, hidden_irreps="5x0e+3x1o+2x2e", layers=2),
}


def random_checkpoint(arch: NequixArchitecture, seed: int = 0) -> Checkpoint:
    """Weights as upstream draws them, with norms that differ and atomic energies."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = NequixAdapter().build(arch, torch.float64)
        weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
        for name in (name for name in weights if "layer_norm" in name):
            weights[name] = 0.5 + torch.rand_like(weights[name])
        energies = -3 * torch.rand(len(arch.elements), dtype=torch.float64)
    return Checkpoint(arch, {**weights, "atom_energies": energies}, licence="MIT", history=({"step": "made"},))
