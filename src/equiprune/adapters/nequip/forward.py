"""NequIP's forward pass with taps on its feature spaces, in any precision.

Submodules are upstream's. Their sequence is written out here, without ``ForceStressOutput`` at its end, so that one
`torch.autograd.grad` outside gives forces, stress and feature gradients together.
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch
from torch import Tensor

from equiprune.adapters.base import species
from equiprune.adapters.e3nn.edges import Edges, summed
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.adapters.nequip.architecture import NequIPArchitecture
from equiprune.structures.graph import AtomicGraph


def evaluate(module: Any, arch: NequIPArchitecture, graph: AtomicGraph, _head: str | None, taps: Taps) -> Outputs:
    """Energies of structures and atoms in eV."""
    network, elements = module.model.func, species(arch, graph.numbers)
    embedding = taps("node_feats.0", network.type_embed.embed_module(elements))
    edges, features = _edges(network, arch, graph, taps), embedding
    for t in range(arch.layers):
        layer = network.get_submodule(f"layer{t}_convnet")
        sent = taps(f"edge_irreps.{t}", layer.conv.linear_1(features)) * _norm(arch, elements, features)
        weights = _network(layer.conv.edge_mlp, edges.radial, f"radial.{t}", taps)
        made = layer.conv.linear_2(summed(layer.conv.tp_scatter.tp, sent, weights, edges))
        if arch.self_connections[t]:
            made = made + layer.conv.sc(features, embedding)
        features = taps(f"node_feats.{t + 1}", layer.equivariant_nonlin(made))
    energies = _network(network.per_atom_energy_readout.mlp_module, features, "readout", taps)
    energies = _scaled(network.per_type_energy_scale_shift, arch, elements, energies)[:, 0]
    total = energies.new_zeros(graph.n_structures).index_add(0, graph.structure_of_atom, energies)
    return Outputs(total, energies)


def _edges(network: Any, arch: NequIPArchitecture, graph: AtomicGraph, taps: Taps) -> Edges:
    """``SphericalHarmonicEdgeAttrs``, ``BesselEdgeLengthEncoding`` and ``ApplyFactor``."""
    vectors = graph.edge_vectors()
    receivers, senders = graph.edge_index
    harmonics = taps("edge_attrs", network.spharm.sh(vectors))
    x, frequencies = vectors.norm(dim=1, keepdim=True) / arch.cutoff, network.bessel_encode.bessel_weights
    bessel = torch.sinc(x * frequencies) * frequencies * (2 * pi / arch.cutoff**2)
    radial = taps("radial_basis", bessel * network.bessel_encode.cutoff(x))
    return Edges(receivers, senders, harmonics, radial, len(graph.numbers))


def _norm(arch: NequIPArchitecture, elements: Tensor, like: Tensor) -> Tensor | float:
    """``AvgNumNeighborsNorm``: one over the root of the average number of neighbours, of the atom that sends."""
    if len(arch.average_neighbors) > 1:
        return like.new_tensor(arch.average_neighbors).rsqrt()[elements, None]
    return arch.average_neighbors[0] ** -0.5 if arch.average_neighbors else 1.0


def _network(network: Any, x: Tensor, space: str, taps: Taps) -> Tensor:
    """``ScalarMLPFunction``, whose linear layers and activations take turns."""
    *hidden, last = network.mlp
    for i, (linear, activation) in enumerate(zip(hidden[::2], hidden[1::2], strict=True)):
        x = taps(f"{space}.{i}", activation(linear(x)))
    result: Tensor = last(x)
    return result


def _scaled(constants: Any, arch: NequIPArchitecture, elements: Tensor, energies: Tensor) -> Tensor:
    """``PerTypeScaleShift``, in the precision of the model."""
    if arch.scales.given:
        energies = energies * constants.scales[elements]
    if arch.shifts.given:
        energies = energies + constants.shifts[elements]
    return energies
