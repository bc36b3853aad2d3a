"""Nequix's forward pass with taps on its feature spaces, in any precision.

Submodules are upstream's (nequix/torch_impl/model.py). The radial basis is written here, since upstream's has the
precision of torch's default dtype.
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch
from torch import Tensor, nn

from equiprune.adapters.base import species
from equiprune.adapters.e3nn.edges import Edges, summed
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.adapters.nequix.architecture import NequixArchitecture
from equiprune.blocks import Irreps
from equiprune.structures.graph import AtomicGraph


def evaluate(module: Any, arch: NequixArchitecture, graph: AtomicGraph, _head: str | None, taps: Taps) -> Outputs:
    """Energies of structures and atoms in eV."""
    elements = species(arch, graph.numbers)
    edges = _edges(arch, graph, taps)
    features = nn.functional.one_hot(elements, len(arch.elements)).to(graph.positions.dtype)
    for t, layer in enumerate(module.layers):
        features = _layer(layer, arch, t, features, edges, taps)
    energies = module.readout(features)[:, 0] * arch.scale + arch.shift + module.atom_energies[elements]
    total = energies.new_zeros(graph.n_structures).index_add(0, graph.structure_of_atom, energies)
    return Outputs(total, energies)


def _edges(arch: NequixArchitecture, graph: AtomicGraph, taps: Taps) -> Edges:
    from e3nn import o3

    vectors = graph.edge_vectors()
    degrees = list(range(arch.edge_lmax + 1))
    harmonics = o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")
    receivers, senders = graph.edge_index
    radial = taps("radial_basis", _radial_basis(arch, vectors.norm(dim=1)))
    return Edges(receivers, senders, taps("edge_attrs", harmonics), radial, len(graph.numbers))


def _radial_basis(arch: NequixArchitecture, distances: Tensor) -> Tensor:
    """Bessel functions times the polynomial cutoff, (edges, functions); ``bessel_basis``, ``polynomial_cutoff``."""
    frequencies = torch.arange(1, arch.radial_basis + 1, dtype=distances.dtype, device=distances.device) * pi
    x, p = distances[:, None] / arch.cutoff, arch.radial_power
    bessel = 2 / arch.cutoff**2 * torch.sin(frequencies * x) / x
    decay = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return bessel * decay * (x < 1)


def _layer(layer: Any, arch: NequixArchitecture, t: int, features: Tensor, edges: Edges, taps: Taps) -> Tensor:
    """``NequixTorchConvolution``, with blocks removed before the norm, which sums over those that are there."""
    name = f"node_feats.{t + 1}"
    sent = taps(f"edge_irreps.{t}", layer.linear_1(features))
    weights = _radial_network(layer.radial_mlp, edges.radial, t, taps)
    messages = layer.sort(summed(layer.tp, sent, weights, edges)) / arch.average_neighbors**0.5
    made = layer.linear_2(messages) + layer.skip(features)
    if (kept := taps.kept(name, made)) is not None:
        made = made * _gate_inputs_kept(arch.made(t), kept)
    if layer.layer_norm is not None:
        made = layer.layer_norm(made)
    return taps(name, layer.gate(made))


def _radial_network(network: Any, radial: Tensor, t: int, taps: Taps) -> Tensor:
    *hidden, last = network.layers
    for i, linear in enumerate(hidden):
        radial = taps(f"radial.{t}.{i}", network.activation(linear(radial)))
    weights: Tensor = last(radial)
    return weights


def _gate_inputs_kept(irreps: Irreps, kept: Tensor) -> Tensor:
    """Ones where the input of norm and gate is kept: a gate is when its channel is."""
    scalars = [kept[columns] for _, ir, columns in irreps.slices() if ir.l == 0]
    gates = [kept[columns][:: ir.dim] for _, ir, columns in irreps.slices() if ir.l > 0]
    vectors = [kept[columns] for _, ir, columns in irreps.slices() if ir.l > 0]
    return torch.cat([*scalars, *gates, *vectors])
