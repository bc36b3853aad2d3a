"""The frame of each edge, and what turns features into it.

A frame's second axis is the edge; the turn about it is arbitrary, and upstream draws it anew in every evaluation
(``_init_edge_rot_mat`` in escn.py). The result depends on it a little, because values on a grid are activated, so
numbers would never repeat. Here the turn is a number made from the edge's own vector: as spread out as a random one,
and always the same, whatever else is in the batch.
"""

from __future__ import annotations

from functools import lru_cache
from math import pi, tau

import torch
from torch import Tensor

from equiprune.adapters.escn import upstream
from equiprune.adapters.precision import default_dtype

_STEPS_PER_ANGSTROM = 1000 * pi / 3
"""Coordinates are counted in these steps: the same edge in another precision has the same turn. Irrational, or the
coordinates of crystals would lie between two steps, and rounding would choose.
"""
_PRIMES = (73_856_093, 19_349_663, 83_492_791)


def gauge_angles(vectors: Tensor) -> Tensor:
    """An angle from 0 to 2 pi for each edge (edges, 3): a hash of its coordinates, spread evenly and always the same.

    >>> edges = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.01], [1.0, 2.0, 3.0]])
    >>> a, b, c = gauge_angles(edges).tolist()
    >>> a == c, a == b, 0 <= a < tau
    (True, False, True)
    """
    steps = _steps(vectors)
    mixed = (steps * torch.tensor(_PRIMES, device=steps.device)).sum(-1)
    for shift in (13, 7, 17):  # spread neighbouring integers over all bits
        mixed = (mixed ^ (mixed >> shift)) * 2_654_435_761 % (1 << 31)
    return mixed.to(vectors.dtype) * (tau / (1 << 31))


def _steps(vectors: Tensor) -> Tensor:
    return (vectors.detach().double() * _STEPS_PER_ANGSTROM).round().long()


def rotations(vectors: Tensor) -> Tensor:
    """Orthogonal matrices (edges, 3, 3) that turn each edge (Angstrom) to the y axis."""
    y = vectors / vectors.norm(dim=-1, keepdim=True)
    least = torch.eye(3, dtype=y.dtype, device=y.device)[_steps(vectors).abs().argmin(dim=-1)]
    first = torch.linalg.cross(y, least)
    first = first / first.norm(dim=-1, keepdim=True)
    second = torch.linalg.cross(y, first)
    angle = gauge_angles(vectors)[:, None]
    x = angle.cos() * first + angle.sin() * second
    return torch.stack([x, y, -torch.linalg.cross(y, x)], dim=1).detach()


def wigner_matrices(vectors: Tensor, lmax: int) -> Tensor:
    """(edges, (lmax + 1)^2, (lmax + 1)^2): turns features of all l into the frames of edges; its transpose, back."""
    with default_dtype(vectors.dtype):
        return upstream.classes().SO3_Rotation(rotations(vectors), lmax).wigner


@lru_cache(maxsize=64)
def by_order(lmax: int, mmax: int, device: torch.device) -> tuple[Tensor, tuple[int, ...]]:
    """Coefficients l*l + l + m with |m| <= mmax, in upstream's order, and how many of them each part has.

    First those of m = 0, then of m = 1, of m = -1, of m = 2, ..., each by growing l.

    >>> by_order(2, 1, torch.device("cpu"))
    (tensor([0, 2, 6, 3, 7, 1, 5]), (3, 2, 2))
    """
    with torch.inference_mode(False):  # what is remembered must serve training too
        return _by_order(lmax, mmax, device)


def _by_order(lmax: int, mmax: int, device: torch.device) -> tuple[Tensor, tuple[int, ...]]:
    signed = [0, *(sign * m for m in range(1, mmax + 1) for sign in (1, -1))]
    parts = [[l * l + l + m for l in range(abs(m), lmax + 1)] for m in signed]
    return torch.tensor([c for part in parts for c in part], device=device), tuple(map(len, parts))


@lru_cache(maxsize=64)
def sphere(
    lmax: int, mmax: int, latitudes: int, longitudes: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Matrices (latitudes, longitudes, coefficients) to values at points of a sphere, and from them.

    Coefficients are all l*l + l + m with |m| <= mmax, by growing l and m (``SO3_Grid`` in so3.py).
    """
    with torch.inference_mode(False), default_dtype(dtype):
        grid = upstream.classes().SO3_Grid(lmax, mmax)
        grid.lat_resolution, grid.long_resolution = latitudes, longitudes
        return grid.get_to_grid_mat(device), grid.get_from_grid_mat(device)
