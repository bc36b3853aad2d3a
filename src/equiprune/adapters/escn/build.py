"""Building eSCN modules with upstream's constructor, on the points of the sphere that the architecture names."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from equiprune.adapters.escn import upstream
from equiprune.adapters.escn.architecture import EscnArchitecture, Grid
from equiprune.adapters.precision import default_dtype


def build(arch: EscnArchitecture, dtype: torch.dtype) -> nn.Module:
    """An upstream module with freshly initialised weights."""
    with default_dtype(dtype):
        module = upstream.classes().eSCN(**arguments(arch))
    _set_points(module.SO3_grid[arch.lmax][arch.mmax], arch.message_grid)
    _set_points(module.SO3_grid[arch.lmax][arch.lmax], arch.node_grid)
    return module


def arguments(arch: EscnArchitecture) -> dict[str, Any]:
    """Keyword arguments of fairchem's ``eSCN``."""
    return {
        "use_pbc": True,
        "regress_forces": True,
        "otf_graph": True,
        "max_neighbors": arch.max_neighbors,
        "cutoff": arch.cutoff,
        "max_num_elements": arch.max_num_elements,
        "num_layers": len(arch.layers),
        "lmax_list": [arch.lmax],
        "mmax_list": [arch.mmax],
        "sphere_channels": arch.sphere_channels,
        "hidden_channels": arch.hidden_channels,
        "edge_channels": arch.edge_channels,
        "num_sphere_samples": arch.sphere_samples,
        "distance_function": str(arch.smearing),
        "basis_width_scalar": arch.smearing_width,
        "distance_resolution": arch.resolution,
        "resolution": arch.resolution_argument,
    }


def _set_points(grid: Any, points: Grid) -> None:
    """Points on the sphere: where lmax is mmax, upstream has one grid for both uses, and `forward` has each."""
    grid.lat_resolution, grid.long_resolution, grid.initialized = points.latitudes, points.longitudes, False
