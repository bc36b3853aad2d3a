"""Small random NequIP models to which every layer contributes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from equiprune.adapters import Checkpoint
from equiprune.adapters.nequip import NequIPAdapter
from equiprune.adapters.nequip.architecture import Constants, NequIPArchitecture


def architecture(**changes: Any) -> NequIPArchitecture:
    """Hyperparameters as upstream's presets have them, and smaller; ``changes`` override them."""
    usual = NequIPArchitecture(
        elements=(1, 8, 14, 29),
        cutoff=4.5,
        embedding=4,
        hidden_irreps=("4x0e+3x1o+2x2e", "4x0e+2x1o+2x2e", "4x0e"),
        edge_lmax=2,
        radial_basis=4,
        radial_basis_trained=False,
        cutoff_power=6.0,
        radial_depths=(1, 1, 1),
        radial_widths=(6, 5, 4),
        average_neighbors=(14.3,),
        self_connections=(False, True, True),
        act_even="silu",
        act_odd="tanh",
        act_gate="silu",
        readout_widths=(),
        readout_activation="silu",
        scales=Constants(),
        shifts=Constants(),
    )
    return replace(usual, **changes)


KINDS: Mapping[str, NequIPArchitecture] = {
    "as the presets": architecture(),
    "both parities, trained constants, numbers of neighbours by element": architecture(
        hidden_irreps=("3x0e+2x1o", "3x0e+2x1e+2x1o", "3x0e+2x0o+2x1o", "3x0e"),
        edge_lmax=1,
        radial_basis_trained=True,
        radial_depths=(2, 1, 0, 1),
        radial_widths=(4, 5, 1, 4),
        average_neighbors=(9.0, 11.0, 12.5, 20.0),
        self_connections=(False, True, True, True),
        scales=Constants(trained=True),
        shifts=Constants(trained=True),
        readout_widths=(4, 4),
        readout_activation="gelu",
    ),
    "self-connections everywhere, no shift": architecture(
        hidden_irreps=("4x0e+2x1o", "4x0e"),
        edge_lmax=1,
        radial_depths=(1, 1),
        radial_widths=(5, 4),
        self_connections=(True, True),
        act_even="tanh",
        act_gate="tanh",
        scales=Constants(),
        shifts=Constants(given=False),
    ),
}


def random_checkpoint(arch: NequIPArchitecture, seed: int = 0) -> Checkpoint:
    """Weights as upstream draws them, larger in what layers send and make, and scales and shifts that differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = NequIPAdapter().build(arch, torch.float64)
        held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        weights = {name: held[name].detach().clone() for name in NequIPAdapter().layouts(arch)}
        for name in weights:
            if "linear_" in name or "edge_mlp" in name:
                weights[name] *= 1.5
            if name.endswith((".scales", ".shifts")):
                weights[name] = 0.5 + torch.rand_like(weights[name])
    return Checkpoint(arch, weights, licence="MIT", history=({"step": "made"},))
