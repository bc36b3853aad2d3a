"""eSCN's forward pass with taps on its feature spaces, in any precision (fairchem/core/models/escn/escn.py).

Linear maps are those of the upstream module; what lies between them is written out, so that every feature space can be
reached where it is produced, frames of edges are reproducible, and messages and atoms keep their own points on the
sphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from equiprune.adapters.escn.architecture import EscnArchitecture
from equiprune.adapters.escn.frames import by_order, sphere, wigner_matrices
from equiprune.adapters.escn.layouts import HEADS, SIDES
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.structures.graph import AtomicGraph

_ENERGY_UNIT = 1e-3
"""Upstream's factor on the sum over atoms."""


def evaluate(model: Any, arch: EscnArchitecture, graph: AtomicGraph, _head: str | None, taps: Taps) -> Outputs:
    """Energies in eV and forces in eV/Angstrom. Centres receive from their neighbours.

    An atom's share of the energy has its part of the mean energy of a structure.
    """
    features = _features(model, arch, graph, taps)
    values = torch.einsum("nac,pa->pnc", features, model.sphharm_weights[0])
    per_atom, along = (_read(model, head, values, taps) for head in HEADS)
    shares = per_atom.mean(0)
    total = torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_atom, shares)
    forces = torch.einsum("pn,px->nx", along, model.sphere_points) / len(model.sphere_points)
    unit = _ENERGY_UNIT * arch.energy_scale
    mean = arch.energy_mean / graph.structure_of_atom.bincount(minlength=graph.n_structures)[graph.structure_of_atom]
    return Outputs(total * unit + arch.energy_mean, shares * unit + mean, forces * arch.forces_scale)


def _features(model: Any, arch: EscnArchitecture, graph: AtomicGraph, taps: Taps) -> Tensor:
    """Features of atoms after the last layer, (atoms, (lmax + 1)^2, channels)."""
    vectors = graph.edge_vectors()
    order, sizes = by_order(arch.lmax, arch.mmax, vectors.device)
    wigner = wigner_matrices(vectors, arch.lmax)[:, order]
    edges = _Edges(graph.edge_index, graph.numbers, vectors.norm(dim=-1), wigner, order, sizes)
    embedded = taps("node_feats.0", model.sphere_embedding(graph.numbers))
    features = torch.nn.functional.pad(embedded[:, None], (0, 0, 0, (arch.lmax + 1) ** 2 - 1))
    shares = taps("interactions", torch.ones_like(embedded[:, :1]).repeat(1, len(arch.layers)))
    for position, (k, block) in enumerate(zip(arch.layers, model.layer_blocks, strict=True)):
        update = _layer(block, k, arch, features, edges, taps) * shares[:, position, None, None]
        features = _tapped_degrees("node_feats", features + update if position else update, taps)
    return features


@dataclass(frozen=True)
class _Edges:
    """Edges of a batch, as every layer needs them.

    Attributes:
        index: centre and neighbour, (2, edges).
        numbers: atomic numbers of atoms.
        lengths: (edges,) Angstrom.
        wigner: into the frames, (edges, coefficients of low order, (lmax + 1)^2).
        order: which coefficients those are.
        sizes: how many of them belong to m = 0, 1, -1, ...
    """

    index: Tensor
    numbers: Tensor
    lengths: Tensor
    wigner: Tensor
    order: Tensor
    sizes: tuple[int, ...]


def _layer(block: Any, k: int, arch: EscnArchitecture, features: Tensor, edges: _Edges, taps: Taps) -> Tensor:
    """Update of the features by a layer, (atoms, (lmax + 1)^2, channels)."""
    messages = torch.zeros_like(features).index_add(
        0, edges.index[0], _messages(block.message_block, k, arch, features, edges, taps)
    )
    points = arch.node_grid
    to, back = sphere(arch.lmax, arch.lmax, points.latitudes, points.longitudes, features.dtype, features.device)
    values = torch.einsum("bai,nic->banc", to, torch.cat([features, messages], dim=-1))
    for i, linear in enumerate((block.fc1_sphere, block.fc2_sphere)):
        values = _tapped_rows(f"pointwise.{k}.{i}", silu(linear(values)), taps)
    return torch.einsum("bai,banc->nic", back, block.fc3_sphere(values))


def _messages(block: Any, k: int, arch: EscnArchitecture, features: Tensor, edges: _Edges, taps: Taps) -> Tensor:
    """From each neighbour to its centre, (edges, (lmax + 1)^2, channels)."""
    centre, neighbour = edges.index
    edge = _edge(block.edge_block, k, edges, taps)
    ends = {"source": neighbour, "target": centre}
    source, target = (
        _convolution(getattr(block, f"so2_block_{side}"), f"hidden.{k}.{side}", edges, features[ends[side]], edge, taps)
        for side in SIDES
    )
    name, size = f"messages.{k}", (arch.lmax + 1) ** 2
    mixed = _tapped_orders(name, source + target, edges.order, size, taps)
    activated = _tapped_orders(name, _activated(arch, mixed, edges.order), edges.order, size, taps)
    return torch.bmm(edges.wigner.transpose(1, 2), activated)


def _edge(block: Any, k: int, edges: _Edges, taps: Taps) -> Tensor:
    """Features of edges from their lengths and elements, (edges, edge channels)."""
    centre, neighbour = edges.numbers[edges.index]
    first = block.fc1_dist(block.distance_expansion(edges.lengths))
    first = silu(first + block.source_embedding(neighbour) + block.target_embedding(centre))
    first = taps(f"edge.{k}.0", first)
    return taps(f"edge.{k}.1", silu(block.fc1_edge_attr(first)))


def _convolution(block: Any, name: str, edges: _Edges, features: Tensor, edge: Tensor, taps: Taps) -> Tensor:
    """Features of one end, turned into the frames and mixed order by order, (edges, coefficients, channels)."""
    zero, *others = torch.bmm(edges.wigner, features).split(edges.sizes, dim=1)
    hidden = taps(f"{name}.m0", block.fc1_m0(zero.flatten(1))) * silu(block.fc1_dist0(edge))
    mixed = [block.fc2_m0(hidden).reshape(zero.shape)]
    for m, (plus, minus) in enumerate(zip(others[::2], others[1::2], strict=True), start=1):
        both = torch.stack([plus.flatten(1), minus.flatten(1)])
        mixed += [
            part.reshape(plus.shape) for part in _rotation(block.so2_conv[m - 1], f"{name}.m{m}", both, edge, taps)
        ]
    return torch.cat(mixed, dim=1)


def _rotation(block: Any, name: str, both: Tensor, edge: Tensor, taps: Taps) -> tuple[Tensor, Tensor]:
    """The parts m and -m, (2, edges, degrees times channels), times complex weights."""
    gates = silu(block.fc1_dist(edge)).chunk(2, dim=-1)
    real = block.fc2_r(_tapped_rows(f"{name}.real", block.fc1_r(both), taps) * gates[0])
    imaginary = block.fc2_i(_tapped_rows(f"{name}.imaginary", block.fc1_i(both), taps) * gates[1])
    return real[0] - imaginary[1], real[1] + imaginary[0]


def _activated(arch: EscnArchitecture, mixed: Tensor, order: Tensor) -> Tensor:
    """Messages activated as values on a sphere; coefficients stay in their order."""
    points = arch.message_grid
    to, back = sphere(arch.lmax, arch.mmax, points.latitudes, points.longitudes, mixed.dtype, mixed.device)
    rank = order.argsort().argsort()  # where each coefficient is among those of low order, by growing l and m
    values = silu(torch.einsum("bai,eic->ebac", to[..., rank], mixed))
    return torch.einsum("bai,ebac->eic", back[..., rank], values)


def _read(model: Any, head: str, values: Tensor, taps: Taps) -> Tensor:
    """Values that a head reads at each point of the sphere for each atom, (points, atoms)."""
    block = getattr(model, f"{head}_block")
    for i, linear in enumerate((block.fc1, block.fc2)):
        values = _tapped_rows(f"{head}.{i}", silu(linear(values)), taps)
    return block.fc3(values)[..., 0]


def _tapped_rows(space: str, feature: Tensor, taps: Taps) -> Tensor:
    """(..., sites, channels): a block of sites for each of the leading dimensions."""
    if space not in taps:
        return feature
    return taps(space, feature.reshape(-1, feature.shape[-1])).reshape(feature.shape)


def _tapped_degrees(space: str, feature: Tensor, taps: Taps) -> Tensor:
    """(sites, (lmax + 1)^2, channels); a space has all components of a channel of one l together."""
    if space not in taps:
        return feature
    degrees = _degrees(feature.shape[1])
    flat = torch.cat([part.transpose(1, 2).flatten(1) for part in feature.split(degrees, dim=1)], dim=1)
    parts = taps(space, flat).split([size * feature.shape[2] for size in degrees], dim=1)
    shaped = [
        part.reshape(len(part), feature.shape[2], size).transpose(1, 2)
        for part, size in zip(parts, degrees, strict=True)
    ]
    return torch.cat(shaped, dim=1)


def _tapped_orders(space: str, feature: Tensor, order: Tensor, size: int, taps: Taps) -> Tensor:
    """(sites, coefficients of low order, channels); those of high order are zero."""
    if space not in taps:
        return feature
    whole = feature.new_zeros(len(feature), size, feature.shape[2]).index_copy(1, order, feature)
    return _tapped_degrees(space, whole, taps)[:, order]


def _degrees(coefficients: int) -> tuple[int, ...]:
    """Components of each l: 1, 3, 5, ..."""
    return tuple(range(1, 2 * isqrt(coefficients), 2))
