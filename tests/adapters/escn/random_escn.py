"""Small random eSCN models to which every layer contributes."""

from dataclasses import replace
from typing import Any

import torch

from equiprune.adapters import Checkpoint
from equiprune.adapters.escn import EscnAdapter
from equiprune.adapters.escn.architecture import EscnArchitecture, escn


def architecture(**changes: Any) -> EscnArchitecture:
    """A small model that is normalised like those of OC20; ``changes`` are arguments of `escn`."""
    values: dict[str, Any] = {
        "lmax": 3,
        "mmax": 2,
        "layers": 3,
        "channels": 8,
        "hidden": 12,
        "edge": 6,
        "cutoff": 5.0,
        "neighbors": 12,
        "elements": 20,
        "samples": 16,
        "resolution": 0.5,
    }
    return replace(escn(**(values | changes)), energy_mean=-0.7554450631141663, energy_scale=2.9, forces_scale=2.7)


def random_checkpoint(
    arch: EscnArchitecture | None = None, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Checkpoint:
    """Weights of layers are three times those of upstream's initialisation, so that activations are not linear."""
    arch = arch or architecture()
    torch.manual_seed(seed)
    named = EscnAdapter().build(arch, dtype).named_parameters()
    weights = {name: p.detach() * (3.0 if name.startswith("layer_blocks") else 1.0) for name, p in named}
    return Checkpoint(arch, weights, licence="MIT", history=({"step": "made"},))
