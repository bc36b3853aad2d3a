"""SevenNet's forward pass with taps on its feature spaces, in any precision.

The stock model is a sequence of modules that pass a dictionary along; forces come from a last module that is left out
here, so that one `torch.autograd.grad` outside gives forces, stress and feature gradients together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from equiprune.adapters.base import species
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.adapters.sevennet.architecture import SevenNetArchitecture
from equiprune.structures.graph import AtomicGraph

_FEATURES = "x"
_NODE_ATTRS = "node_attr"


def evaluate(
    module: nn.Module, arch: SevenNetArchitecture, graph: AtomicGraph, head: str | None, taps: Taps
) -> Outputs:
    """Energies of structures and atoms in eV. Dictionary keys are those of sevenn/_keys.py."""
    data: dict[str, Any] = {
        _FEATURES: species(arch, graph.numbers),
        "edge_vec": graph.edge_vectors(),
        "edge_index": graph.edge_index,
        "batch": graph.structure_of_atom,
        "num_atoms": torch.bincount(graph.structure_of_atom, minlength=graph.n_structures),
    }
    if arch.heads:
        number = arch.heads.index(head or "")
        data["modal_type"] = torch.full((graph.n_structures,), number, device=graph.positions.device)
    with _inner_taps(module, arch, taps):
        for name, layer in module.named_children():
            if name == "force_output":
                break
            data = layer(data)
            _after(name, data, taps, graph.positions.dtype)
    return Outputs(data["inferred_total_energy"], data["atomic_energy"][:, 0])


def _after(name: str, data: dict[str, Any], taps: Taps, dtype: torch.dtype) -> None:
    """Apply the taps that belong behind a module."""
    number, _, rest = name.partition("_")
    match name, rest:
        case ("onehot_idx_to_onehot", _):
            # Upstream casts the one-hot to float32 whatever the model's precision is.
            data[_FEATURES], data[_NODE_ATTRS] = data[_FEATURES].to(dtype), data[_NODE_ATTRS].to(dtype)
        case ("edge_embedding", _):
            data["edge_attr"] = taps("edge_attrs", data["edge_attr"])
            data["edge_embedding"] = taps("radial_basis", data["edge_embedding"])
        case ("onehot_to_feature_x", _):
            data[_FEATURES] = taps("node_feats.0", data[_FEATURES])
        case (_, "self_interaction_1"):
            data[_FEATURES] = taps(f"edge_irreps.{number}", data[_FEATURES])
        case (_, "equivariant_gate"):
            data[_FEATURES] = taps(f"node_feats.{int(number) + 1}", data[_FEATURES])


@contextmanager
def _inner_taps(module: nn.Module, arch: SevenNetArchitecture, taps: Taps) -> Iterator[None]:
    """Taps on hidden neurons, which live inside a module: forward hooks for the duration of one evaluation."""
    layers = {
        f"radial.{t}.{i}": f"{t}_convolution.weight_nn.layer{i}"
        for t in range(arch.interactions)
        for i in range(len(arch.radial_widths))
    }
    layers |= {f"readout.{i}": f"readout_FCN.fcn.layer{i}" for i in range(len(arch.readout_hidden))}
    with ExitStack() as hooks:
        for space in filter(taps.__contains__, layers):
            handle = module.get_submodule(layers[space]).register_forward_hook(
                lambda _module, _inputs, output, space=space: taps(space, output)
            )
            hooks.callback(handle.remove)
        yield
