"""Small random eSCN models to which every layer contributes."""

from dataclasses import replace
from typing import Any

import torch

from equiprune.adapters import Checkpoint
from equiprune.adapters.escn import EscnAdapter
from equiprune.adapters.escn.architecture import EscnArchitecture, escn


def small(**changes: Any) -> EscnArchitecture:
    """As upstream's constructor makes it; ``changes`` override its hyperparameters."""
    chosen: dict[str, Any] = {
        "lmax": 3,
        "layers": 3,
        "channels": 6,
        "hidden": 7,
        "edge": 5,
        "cutoff": 5.0,
        "neighbors": 12,
        "elements": 30,
        "samples": 16,
        "resolution": 0.5,
    }
    return escn(**{**chosen, **changes})


def normalised(**changes: Any) -> EscnArchitecture:
    """The same, with outputs scaled as those of OC20's models are."""
    return replace(small(**changes), energy_mean=-0.7554450631141663, energy_scale=2.9, forces_scale=2.7)


def random_checkpoint(
    architecture: EscnArchitecture, seed: int = 0, scale: float = 3.0, dtype: torch.dtype = torch.float64
) -> Checkpoint:
    """Weights as upstream draws them, times ``scale`` inside layers: as drawn, activations would hardly bend."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = EscnAdapter().build(architecture, dtype)
    weights = {
        name: parameter.detach() * (scale if name.startswith("layer_blocks") else 1.0)
        for name, parameter in module.named_parameters()
    }
    for head in ("energy", "force"):
        weights[f"{head}_block.fc3.weight"] = weights[f"{head}_block.fc3.weight"] * 100
    return Checkpoint(architecture, weights, licence="MIT", history=({"step": "made"},))
