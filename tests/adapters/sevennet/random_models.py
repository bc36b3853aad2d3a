"""Small random SevenNet models of every kind, to which every interaction contributes."""

from typing import Any

import torch
from plain_code import plain

from equiprune.adapters import Checkpoint
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.adapters.sevennet.architecture import HeadUse, Rescale, SelfConnection, SevenNetArchitecture
from equiprune.blocks import Irreps

_SO3 = ("6x0e", "6x0e+4x1e+3x2e", "5x0e+4x1e+3x2e", "5x0e")
_O3 = ("6x0e", "6x0e+4x0o+4x1o+3x1e+2x2e", "5x0e+3x0o+4x1o+2x2e+2x2o", "5x0e")
_NEQUIP, _LINEAR = SelfConnection.NEQUIP, SelfConnection.LINEAR


def architecture(hidden: tuple[str, ...] = _SO3, **changes: Any) -> SevenNetArchitecture:
    """A small model; ``changes`` override its hyperparameters."""
    values: dict[str, Any] = {
        "elements": (14, 8, 1, 11, 17, 29),
        "cutoff": 4.5,
        "hidden_irreps": hidden,
        "edge_lmax": 2,
        "parity": False,
        "radial_basis": 5,
        "cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6},
        "radial_widths": (8, 7),
        "act_radial": "silu",
        "act_scalar": {"e": "silu", "o": "tanh"},
        "act_gate": {"e": "silu", "o": "tanh"},
        "self_connection": (_LINEAR,) * (len(hidden) - 1),
        "bias": False,
        **changes,
    }
    if not values.get("readout_hidden"):
        values["readout_width"] = Irreps.parse(hidden[-1]).dim // 2
    return SevenNetArchitecture(**values)


KINDS = {
    "SO(3), linear self-connection": architecture(),
    "O(3), tensor-product self-connection, biases": architecture(
        _O3, parity=True, self_connection=(_NEQUIP,) * 3, bias=True
    ),
    "mixed self-connections, biases, readout network, XPLOR": architecture(
        self_connection=(_NEQUIP, _LINEAR, _NEQUIP),
        bias=True,
        readout_hidden=(7, 5),
        readout_activation="silu",
        cutoff_function={"cutoff_function_name": "XPLOR", "cutoff_on": 3.5},
    ),
    "three heads everywhere, global l > 0 in the last features": architecture(
        ("6x0e", "6x0e+4x1e+3x2e", "6x0e+2x1e"),
        heads=("a", "b", "c"),
        head_use=HeadUse(True, True, True, True, True, False),
        rescale=Rescale.PER_HEAD,
    ),
}


def random_checkpoint(arch: SevenNetArchitecture, seed: int = 0) -> Checkpoint:
    """Upstream's own initialisation, made livelier: few neighbours, biases, constants that differ."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    with plain():
        module = SevenNetAdapter().build(arch, torch.float64)
    weights = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for name, weight in weights.items():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        if name.endswith("bias"):
            weights[name] = 0.5 * noise
        elif name.endswith("denominator"):
            weights[name] = torch.full_like(weight, 2.0)
        elif name.startswith("rescale"):
            weights[name] = 2 + 0.3 * noise
        elif name.endswith("coeffs"):
            weights[name] = weight * (1 + 0.1 * noise)
        else:
            weights[name] = 1.3 * weight
    return Checkpoint(arch, weights, licence="MIT", source=f"random SevenNet, seed {seed}")
