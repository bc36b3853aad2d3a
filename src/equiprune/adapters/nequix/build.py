"""Building Nequix modules of upstream's classes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from equiprune.adapters.nequix import upstream
from equiprune.adapters.nequix.architecture import NequixArchitecture
from equiprune.adapters.precision import default_dtype


def build(arch: NequixArchitecture, dtype: torch.dtype) -> nn.Module:
    """An upstream module with freshly initialised weights.

    Its layers are added one by one, which gives what upstream's constructor does, and others that it has no arguments
    for.
    """
    model_file = upstream.model_file()
    # e3nn takes the precision of its constants from torch's default dtype while a module is constructed.
    with default_dtype(dtype), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = model_file.NequixTorch(
            n_species=len(arch.elements),
            lmax=arch.edge_lmax,
            cutoff=arch.cutoff,
            hidden_irreps=str(arch.made(arch.layers - 1)),
            n_layers=0,
            radial_basis_size=arch.radial_basis,
            radial_polynomial_p=arch.radial_power,
            shift=arch.shift,
            scale=arch.scale,
        )
        module.layers.extend(_layer(model_file, arch, t) for t in range(arch.layers))
        _forget_samples(model_file, module)
        return module.to(dtype)


def _layer(model_file: Any, arch: NequixArchitecture, t: int) -> nn.Module:
    from e3nn import o3

    sent, made = o3.Irreps(str(arch.sent(t))), o3.Irreps(str(arch.made(t)))
    layer = model_file.NequixTorchConvolution(
        input_irreps=sent,
        output_irreps=made,
        sh_irreps=o3.Irreps.spherical_harmonics(arch.edge_lmax),
        n_species=len(arch.elements),
        radial_basis_size=arch.radial_basis,
        radial_mlp_size=arch.radial_width,
        radial_mlp_layers=arch.radial_layers,
        mlp_init_scale=arch.radial_init_scale,
        avg_n_neighbors=arch.average_neighbors,
        layer_norm=arch.layer_norm,
    )
    if t == 0 and arch.first_channels != len(arch.elements):
        elements = o3.Irreps(f"{len(arch.elements)}x0e")
        layer.linear_1 = o3.Linear(elements, sent)
        layer.skip = o3.Linear(elements, layer.linear_2.irreps_out)
    return layer


def _forget_samples(model_file: Any, module: nn.Module) -> None:
    """Drop the million numbers (8 MB) by which each activation was normalised: it keeps them, and never looks again."""
    for each in module.modules():
        if isinstance(each, model_file.normalize2mom):
            vars(each).pop("x", None)
