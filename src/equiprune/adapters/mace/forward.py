"""MACE's forward pass with taps on its feature spaces, in any precision (mace/modules/models.py, ``forward``).

Forces are left out, so that one `torch.autograd.grad` outside gives forces, stress and feature gradients together.
Features inside a block are reached by forward hooks for the duration of one evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from equiprune.adapters.base import species
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.adapters.mace.architecture import Block, Interaction, MaceArchitecture, ReadoutKind
from equiprune.adapters.precision import default_dtype
from equiprune.blocks import Irreps
from equiprune.structures.graph import AtomicGraph


def evaluate(model: Any, arch: MaceArchitecture, graph: AtomicGraph, head: str | None, taps: Taps) -> Outputs:
    """Energies of structures and atoms in eV. An edge's centre sends, its neighbour receives."""
    number = arch.heads.index(head or "") if arch.heads else 0
    heads = torch.full_like(graph.numbers, number)
    attrs = _one_hot(arch, graph)
    vectors = graph.edge_vectors()
    lengths = vectors.norm(dim=-1, keepdim=True)
    harmonics = model.spherical_harmonics(vectors)
    basis, cutoff = model.radial_embedding(lengths, attrs, graph.edge_index, model.atomic_numbers)
    basis = taps("radial_basis", basis)
    per_atom = _repulsion(model, arch, graph, lengths, attrs)
    shares = taps("interactions", attrs.new_ones(len(attrs), len(arch.steps)))
    with _inner_taps(model, arch, number, attrs, taps):
        features = taps("node_feats.0", _embedded(model, arch, graph, attrs))
        embedded = features
        readouts = iter(model.readouts)
        for t, step in enumerate(arch.steps):
            a_basis, skip = model.interactions[t](
                node_attrs=attrs,
                node_feats=features,
                edge_attrs=_tapped_harmonics(harmonics, t, arch, taps),
                edge_feats=basis,
                edge_index=graph.edge_index,
                cutoff=cutoff,
                first_layer=t == 0,
            )
            features = taps(f"node_feats.{t + 1}", model.products[t](a_basis, skip, attrs))
            if step.readout.kind is not ReadoutKind.NONE:
                per_atom = per_atom + next(readouts)(features, heads)[:, number] * shares[:, t]
    if arch.scale_shift:
        per_atom = model.scale_shift(per_atom, heads)
    per_atom = per_atom + model.atomic_energies_fn(attrs)[:, number]
    if arch.embedding_readout:
        per_atom = per_atom + model.embedding_readout(embedded, heads)[:, number]
    energies = torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_atom, per_atom)
    return Outputs(energies, per_atom)


def _embedded(model: Any, arch: MaceArchitecture, graph: AtomicGraph, attrs: Tensor) -> Tensor:
    """The first features of atoms: of their species, and of what is embedded of the structure."""
    features = model.node_embedding(attrs)
    if not arch.embeddings:
        return features
    given = {each.name: graph.global_inputs[:, i] for i, each in enumerate(arch.embeddings)}
    return features + model.joint_embedding(graph.structure_of_atom, given)


def _one_hot(arch: MaceArchitecture, graph: AtomicGraph) -> Tensor:
    return one_hot(species(arch, graph.numbers), len(arch.elements)).to(graph.positions.dtype)


def _repulsion(model: Any, arch: MaceArchitecture, graph: AtomicGraph, lengths: Tensor, attrs: Tensor) -> Tensor:
    if not arch.pair_repulsion:
        return torch.zeros_like(attrs[:, 0])
    with default_dtype(attrs.dtype):  # upstream raises whole numbers to a power, and their default is what it gives
        return model.pair_repulsion_fn(lengths, attrs, graph.edge_index, model.atomic_numbers)


def _tapped_harmonics(harmonics: Tensor, t: int, arch: MaceArchitecture, taps: Taps) -> Tensor:
    """Spherical harmonics as interaction t sees them; it may use fewer l than another one."""
    if f"edge_attrs.{t}" not in taps:
        return harmonics
    used = (arch.steps[t].edge_lmax + 1) ** 2
    return torch.cat([taps(f"edge_attrs.{t}", harmonics[:, :used]), harmonics[:, used:]], dim=-1)


@contextmanager
def _inner_taps(model: Any, arch: MaceArchitecture, head: int, attrs: Tensor, taps: Taps) -> Iterator[None]:
    """Forward hooks where a tapped feature is made inside a block, and weighted products where orders are tapped."""
    with ExitStack() as stack:
        for name, (module, hook) in _hooks(model, arch, head, taps).items():
            if name in taps:
                stack.callback(module.register_forward_hook(hook).remove)
        for t, step in enumerate(arch.steps):
            if f"correlation.{t}" in taps:
                shares = taps(f"correlation.{t}", attrs.new_ones(len(attrs), step.correlation))
                for contraction in model.products[t].symmetric_contractions.contractions:
                    stack.enter_context(_weighted_orders(contraction, shares))
        yield


Hook = Callable[[nn.Module, Any, Any], Any]


def _hooks(model: Any, arch: MaceArchitecture, head: int, taps: Taps) -> dict[str, tuple[nn.Module, Hook]]:
    hooks: dict[str, tuple[nn.Module, Hook]] = {}
    readout = 0
    for t, step in enumerate(arch.steps):
        block = model.interactions[t]
        hooks[f"edge_irreps.{t}"] = block.linear_up, _hook(f"edge_irreps.{t}", taps)
        hooks[f"a_basis.{t}"] = block.reshape, _a_basis_hook(f"a_basis.{t}", Irreps.parse(step.a_basis), taps)
        if step.block.two_maps:
            first = block.equivariant_nonlin if step.block is Block.GATED else block.linear
            hooks[f"messages.{t}"] = first, _hook(f"messages.{t}", taps)
        hooks |= _edge_hooks(block, step, t, taps)
        if step.readout.kind is ReadoutKind.NONLINEAR:
            hook = _neurons_hook(f"readout.{t}", step.readout.width, head, taps)
            hooks[f"readout.{t}"] = model.readouts[readout].non_linearity, hook
        readout += step.readout.kind is not ReadoutKind.NONE
    return hooks


def _edge_hooks(block: Any, step: Interaction, t: int, taps: Taps) -> dict[str, tuple[nn.Module, Hook]]:
    """Hooks of what the radial network is made of: its neurons, and in a gated block the species that it sees."""
    numbers, network = range(len(step.radial_widths)), block.conv_tp_weights
    if step.block is Block.GATED:  # a linear map, a norm and an activation one after another
        made = {f"radial.{t}.{i}": network.net[3 * i + 2] for i in numbers}
        made |= {f"{name}.{t}": getattr(block, name) for name in ("source_embedding", "target_embedding")}
    else:
        made = {f"radial.{t}.{i}": getattr(network, f"layer{i}") for i in numbers}
    return {space: (module, _hook(space, taps)) for space, module in made.items()}


def _hook(space: str, taps: Taps) -> Hook:
    return lambda _module, _inputs, output: taps(space, output)


def _a_basis_hook(space: str, irreps: Irreps, taps: Taps) -> Hook:
    """Upstream's A-basis is (atoms, channels, m of all l); a space has all channels of one l after those of another."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        dims = [ir.dim for _, ir in irreps]
        flat = torch.cat([part.flatten(1) for part in output.split(dims, dim=-1)], dim=-1)
        pieces = taps(space, flat).split([span.stop - span.start for _, _, span in irreps.slices()], dim=-1)
        shaped = [piece.reshape(len(output), -1, dim) for piece, dim in zip(pieces, dims, strict=True)]
        return torch.cat(shaped, dim=-1)

    return hook


def _neurons_hook(space: str, width: int, head: int, taps: Taps) -> Hook:
    """The hidden neurons of the head that is evaluated; those of the others do not reach it."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        own = slice(head * width, (head + 1) * width)
        return torch.cat([output[:, : own.start], taps(space, output[:, own]), output[:, own.stop :]], dim=-1)

    return hook


@contextmanager
def _weighted_orders(contraction: Any, shares: Tensor) -> Iterator[None]:
    """Give each order of the product a factor per atom, ``shares`` of shape (atoms, orders).

    The contraction starts from the highest order and adds the next lower one before each product with the features
    (mace/modules/symmetric_contraction.py), so that a factor on what is added weighs that order alone.
    """

    def share(nu: int, like: Tensor) -> Tensor:
        return shares[:, nu - 1].reshape(-1, *[1] * (like.dim() - 1))

    def forward(x: Tensor, y: Tensor) -> Tensor:
        top = contraction.correlation
        out = contraction.graph_opt_main(contraction.U_tensors(top), contraction.weights_max, x, y)
        out = out * share(top, out)
        lower = (contraction.weights, contraction.contractions_weighting, contraction.contractions_features)
        for nu, weight, weigh, multiply in zip(range(top - 1, 0, -1), *lower, strict=True):
            added = weigh(contraction.U_tensors(nu), weight, y)
            out = multiply(added * share(nu, added) + out, x)
        return out.view(out.shape[0], -1)

    contraction.forward = forward
    try:
        yield
    finally:
        del contraction.forward
