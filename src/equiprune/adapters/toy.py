"""A complete adapter in pure torch: the example to copy, and the model every core law is tested on.

The model is a small NequIP: scalars and vectors with unequal channel counts, a channel-wise tensor product with
spherical harmonics up to l = 1, a radial network, a gate, a self-connection, two-step linear readout. It is truly
equivariant under rotations and inversion. Weights are stored flat and normalised by fan-in as e3nn does, so that
slicing it wrongly shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

from equiprune.adapters.base import Architecture, Checkpoint, ModelAdapter, per_element, species
from equiprune.adapters.capabilities import Weights
from equiprune.adapters.e3nn import layouts as e3nn_layouts
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.adapters.hyperparameters import Degree
from equiprune.blocks import (
    Entries,
    FeatureSpace,
    HighestL,
    Irrep,
    Irreps,
    IrrepsText,
    Labelled,
    LinearMap,
    NumberOfChannels,
    PrefixOnly,
    Role,
    SameCounts,
    Segment,
    Site,
    WeightLayout,
)
from equiprune.errors import CheckpointError
from equiprune.structures.graph import AtomicGraph


@dataclass(frozen=True, kw_only=True)
class ToyArchitecture(Architecture):
    """Hyperparameters of the toy model.

    Attributes:
        hidden_irreps: node features, one entry more than there are interactions; the last holds scalars only.
        edge_lmax: 0 or 1.
        radial_basis: number of radial functions.
        radial_width: neurons of the radial network.
    """

    hidden_irreps: tuple[str, ...] = ("6x0e", "6x0e+4x1o", "5x0e")
    edge_lmax: Degree = 1
    radial_basis: int = 4
    radial_width: int = 8

    @property
    def irreps(self) -> tuple[Irreps, ...]:
        """``hidden_irreps``, parsed."""
        return tuple(map(Irreps.parse, self.hidden_irreps))

    @property
    def interactions(self) -> int:
        """Number of message-passing steps."""
        return len(self.hidden_irreps) - 1


class ToyAdapter(ModelAdapter[ToyArchitecture]):
    """The toy architecture. ``toy`` is a model with fixed random weights for H, C, O and Si."""

    name = "toy"
    architecture_type = ToyArchitecture
    aliases = MappingProxyType({"toy": "a small random model for trying things out"})

    def read(self, source: str | Path, *, trust: bool = False) -> Checkpoint:
        if str(source).lower() != "toy":
            raise CheckpointError(f"The toy adapter opens only the alias 'toy', not '{source}'.")
        return self.random_checkpoint(ToyArchitecture(elements=(1, 6, 8, 14), cutoff=4.0))

    def random_checkpoint(self, architecture: ToyArchitecture, seed: int = 0) -> Checkpoint:
        """Random weights, scaled so that every interaction contributes."""
        generator = torch.Generator().manual_seed(seed)
        layouts = self.layouts(architecture)
        weights = {n: torch.randn(lay.shape, generator=generator) for n, lay in layouts.items()}
        weights["readout_weight"] *= 10
        weights["radial_centres"] = torch.linspace(0.3, 1, architecture.radial_basis)
        digest = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights)))
        return Checkpoint(architecture, weights, licence="MIT", sha256=digest.hexdigest(), source="toy")

    def build(self, architecture: ToyArchitecture, dtype: torch.dtype) -> nn.Module:
        return ToyModel(self, architecture).to(dtype)

    def spaces(self, architecture: ToyArchitecture) -> tuple[FeatureSpace, ...]:
        return tuple(_spaces(architecture))

    def layouts(self, architecture: ToyArchitecture) -> Mapping[str, WeightLayout]:
        space = {s.name: e3nn_layouts.labelled(s) for s in self.spaces(architecture)}
        layouts = e3nn_layouts.linear("embedding", space["elements"], space["node_feats.0"])
        for t in range(architecture.interactions):
            after = architecture.irreps[t + 1]
            gate_in = e3nn_layouts.gate_inputs(f"node_feats.{t + 1}", after)
            paths = self._paths(architecture, t, space[f"edge_irreps.{t}"])
            columns = tuple(s for _, axis in paths for s in axis)
            radial = [space["radial_basis"][0][1], space[f"radial.{t}"][0][1], columns]
            layouts |= e3nn_layouts.linear(f"self_connection_{t}", space[f"node_feats.{t}"], gate_in)
            layouts |= e3nn_layouts.linear(f"linear_up_{t}", space[f"node_feats.{t}"], space[f"edge_irreps.{t}"])
            layouts |= e3nn_layouts.fully_connected_net(f"radial_{t}", radial)
            layouts |= e3nn_layouts.linear(f"linear_down_{t}", e3nn_layouts.simplified(paths), gate_in)
        last = space[f"node_feats.{architecture.interactions}"]
        layouts |= e3nn_layouts.linear("readout", last, ((last[0][0], (Segment.fixed(1),)),))
        layouts["shift"] = WeightLayout.dense(space["elements"][0][1], trainable=False)
        layouts["radial_centres"] = WeightLayout.dense(space["radial_basis"][0][1], trainable=False)
        return {name.replace(".", "_"): layout for name, layout in layouts.items()}

    def linear_maps(self, architecture: ToyArchitecture) -> tuple[tuple[LinearMap, ...], ...]:
        space = {s.name: e3nn_layouts.labelled(s) for s in self.spaces(architecture)}
        groups: list[tuple[LinearMap, ...]] = []
        for t in range(architecture.interactions):
            before, up = space[f"node_feats.{t}"], space[f"edge_irreps.{t}"]
            gate_in = e3nn_layouts.gate_inputs(f"node_feats.{t + 1}", architecture.irreps[t + 1])
            pooled = e3nn_layouts.simplified(self._paths(architecture, t, up))
            groups.append((_map(f"linear_up_{t}", before, up), _map(f"self_connection_{t}", before, gate_in)))
            groups.append((_map(f"linear_down_{t}", pooled, gate_in, f"maps.self_connection_{t}"),))
        last = space[f"node_feats.{architecture.interactions}"]
        return (*groups, (_map("readout", last, ((last[0][0], (Segment.fixed(1),)),)),))

    def linear_spaces(self, architecture: ToyArchitecture) -> tuple[str, ...]:
        return ("node_feats.0",)

    @staticmethod
    def _paths(architecture: ToyArchitecture, t: int, edge_irreps: Labelled) -> Labelled:
        """Messages of an interaction, one entry for each path of the convolution."""
        allowed = {ir for ir in (Irrep(0, 1), Irrep(1, -1)) if ir.l <= architecture.irreps[t + 1].lmax}
        harmonics = Irreps.spherical_harmonics(architecture.edge_lmax, -1)
        return e3nn_layouts.uvu_paths(edge_irreps, harmonics, allowed.__contains__)

    def evaluate(
        self, module: nn.Module, architecture: ToyArchitecture, graph: AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        per_atom = module(graph, taps)
        energies = torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_atom, per_atom)
        return Outputs(energies, per_atom)

    def with_references(
        self, architecture: ToyArchitecture, weights: Weights, changes: Mapping[int, float], head: str | None
    ) -> tuple[ToyArchitecture, Weights]:
        return architecture, {**weights, "shift": weights["shift"] + per_element(architecture, changes)}


def _map(name: str, inputs: Labelled, outputs: Labelled, *added_to: str) -> LinearMap:
    return LinearMap(f"maps.{name}", f"{name}_weight", inputs, outputs, added_to)


def _spaces(arch: ToyArchitecture) -> Iterator[FeatureSpace]:
    elements, basis, width = map(Irreps.scalars, (len(arch.elements), arch.radial_basis, arch.radial_width))
    harmonics = Irreps.spherical_harmonics(arch.edge_lmax, -1)
    edge, degrees, number = Site.EDGE, (HighestL("edge_lmax"),), (NumberOfChannels("radial_basis"),)
    yield FeatureSpace("elements", elements, Role.ELEMENTS, Site.NONE, size_in=(Entries("elements"),))
    yield FeatureSpace("edge_attrs", harmonics, Role.EDGE_ATTRS, edge, rules=(PrefixOnly(),), size_in=degrees)
    yield FeatureSpace("radial_basis", basis, Role.RADIAL_BASIS, edge, size_in=number)
    for t, irreps in enumerate(arch.irreps):
        text = (IrrepsText("hidden_irreps", t),)
        if t == arch.interactions:
            yield FeatureSpace(f"node_feats.{t}", irreps, Role.NODE_FEATS, size_in=text)
            return
        together, alike = (SameCounts(f"hidden.{t}"),), (SameCounts("radial"),)
        neurons = NumberOfChannels("radial_width")
        yield FeatureSpace(f"node_feats.{t}", irreps, Role.NODE_FEATS, rules=together, size_in=text)
        yield FeatureSpace(f"edge_irreps.{t}", irreps, Role.EDGE_IRREPS, rules=together)
        yield FeatureSpace(f"radial.{t}", width, Role.RADIAL_WIDTH, edge, rules=alike, size_in=(neurons,))


class ToyModel(nn.Module):
    """Feature tensors are ``mul_ir``: all scalars, then vectors as (mul, 3) flattened."""

    def __init__(self, adapter: ToyAdapter, architecture: ToyArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.shift: Tensor
        self.radial_centres: Tensor
        self.layouts = adapter.layouts(architecture)
        for name, layout in self.layouts.items():
            self.register_parameter(name, nn.Parameter(torch.randn(layout.shape), requires_grad=layout.trainable))
        linear = {n.removesuffix("_weight"): lay for n, lay in self.layouts.items() if lay.flat and len(lay.shape) == 1}
        self.maps = nn.ModuleDict({name: ToyLinear(layout) for name, layout in linear.items()})

    def forward(self, graph: AtomicGraph, taps: Taps) -> Tensor:
        """Energies of atoms, (atoms,) eV."""
        arch = self.architecture
        vectors = graph.edge_vectors()
        length = vectors.norm(dim=-1, keepdim=True)
        harmonics = torch.cat([torch.ones_like(length), sqrt(3) * vectors / length][: arch.edge_lmax + 1], dim=-1)
        harmonics = taps("edge_attrs", harmonics)
        basis = taps("radial_basis", self._radial_basis(length))
        elements = species(arch, graph.numbers)
        attrs = one_hot(elements, len(arch.elements)).to(vectors.dtype)
        h = taps("node_feats.0", self._linear("embedding", attrs, Irreps.scalars(len(arch.elements)), arch.irreps[0]))
        for t in range(arch.interactions):
            h = taps(f"node_feats.{t + 1}", self._interaction(t, h, harmonics, basis, graph, taps))
        return self._linear("readout", h, arch.irreps[-1], Irreps.scalars(1))[:, 0] + self.shift[elements]

    def _radial_basis(self, length: Tensor) -> Tensor:
        x = (length / self.architecture.cutoff).clamp(max=1)
        envelope = (1 - x**2) ** 4
        return torch.exp(-20 * (x - self.radial_centres) ** 2) * envelope

    def _interaction(
        self, t: int, h: Tensor, harmonics: Tensor, basis: Tensor, graph: AtomicGraph, taps: Taps
    ) -> Tensor:
        arch = self.architecture
        before, after = arch.irreps[t], arch.irreps[t + 1]
        scalars, vectors = after.entries[0][0], after.channels - after.entries[0][0]
        gate_irreps = Irreps(((scalars + vectors, after.entries[0][1]), *after.entries[1:]))
        skip = self._linear(f"self_connection_{t}", h, before, gate_irreps)
        x = taps(f"edge_irreps.{t}", self._linear(f"linear_up_{t}", h, before, before))
        hidden = silu(self._matrix(f"radial_{t}_layer0_weight", basis))
        weights = self._matrix(f"radial_{t}_layer1_weight", taps(f"radial.{t}", hidden))
        messages, irreps = self._tensor_product(x[graph.edge_index[1]], before, harmonics, weights, after.lmax)
        pooled = h.new_zeros(len(h), irreps.dim).index_add(0, graph.edge_index[0], messages) / 3
        g = skip + self._linear(f"linear_down_{t}", pooled, irreps, gate_irreps)
        gated = g[:, scalars + vectors :].reshape(len(g), vectors, 3) * torch.tanh(
            g[:, scalars : scalars + vectors, None]
        )
        return torch.cat([silu(g[:, :scalars]), gated.flatten(1)], dim=-1)

    def _matrix(self, name: str, x: Tensor) -> Tensor:
        return x @ getattr(self, name) * self.layouts[name].paths[0].scale

    def _linear(self, name: str, x: Tensor, inputs: Irreps, outputs: Irreps) -> Tensor:
        return self.maps[name](x, getattr(self, f"{name}_weight"), inputs, outputs)

    @staticmethod
    def _tensor_product(
        x: Tensor, irreps: Irreps, harmonics: Tensor, weights: Tensor, lmax: int
    ) -> tuple[Tensor, Irreps]:
        """Paths in e3nn's order: 0*0->0, 1*1->0, 0*1->1, 1*0->1."""
        s = x[:, : irreps.entries[0][0]]
        v = x[:, s.shape[1] :].reshape(len(x), (x.shape[1] - s.shape[1]) // 3, 3)
        y0, y1 = harmonics[:, :1], harmonics[:, 1:]
        scalars, vectors = [s * y0], []
        if y1.shape[1]:
            scalars += [torch.einsum("evm,em->ev", v, y1) / sqrt(3)] if v.shape[1] else []
            vectors += [s[:, :, None] * y1[:, None, :]]
        vectors += [v * y0[:, :, None]] if v.shape[1] else []
        parts = scalars + (vectors if lmax > 0 else [])
        out, start, muls = [], 0, [0, 0]
        for part in parts:
            w = weights[:, start : start + part.shape[1]]
            start += part.shape[1]
            muls[part.dim() - 2] += part.shape[1]
            out.append((part * (w if part.dim() == 2 else w[:, :, None])).flatten(1))
        scalar, vector = Irreps.parse("0e").entries[0][1], Irreps.parse("1o").entries[0][1]
        return torch.cat(out, dim=-1), Irreps(tuple((m, ir) for m, ir in zip(muls, (scalar, vector), strict=True) if m))


class ToyLinear(nn.Module):
    """A linear map of irreps, whose weight is the model's: a module so that what goes in and comes out can be seen."""

    def __init__(self, layout: WeightLayout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor, weight: Tensor, inputs: Irreps, outputs: Irreps) -> Tensor:
        """Features (atoms, outputs.dim) of features (atoms, inputs.dim)."""
        blocks, mixed = self.layout.split(weight), {}
        for path in self.layout.paths:
            ir = next(ir for _, ir in inputs if path.key.startswith(str(ir)))
            matrix = blocks[path.key] * path.scale
            span = next(span for _, i, span in inputs.slices() if i == ir)
            rows = x[:, span].reshape(len(x), path.shape[0], ir.dim)
            mixed[ir] = torch.einsum("nim,io->nom", rows, matrix).flatten(1)
        return torch.cat([mixed.get(ir, x.new_zeros(len(x), mul * ir.dim)) for mul, ir in outputs], dim=-1)
