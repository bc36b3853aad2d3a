"""NequIP's linear maps by where they are seen, in the order of the forward pass.

``linear_1`` reads the features, ``linear_2`` reads the messages that its outputs became, and what that makes is added
to the self-connection before the gate.
"""

from __future__ import annotations

from collections.abc import Iterator

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.nequip.architecture import NequIPArchitecture
from equiprune.adapters.nequip.layouts import ENERGY, READOUT, gate_inputs, labelled_spaces, layer_name, message_paths
from equiprune.blocks import LinearMap


def linear_maps(arch: NequIPArchitecture) -> tuple[tuple[LinearMap, ...], ...]:
    """Groups of maps, two of each layer and the last of the readout."""
    groups = [group for t in range(arch.layers) for group in _layer(arch, t)]
    if not arch.readout_widths:
        last = labelled_spaces(arch)[f"node_feats.{arch.layers}"]
        groups.append((LinearMap.of_module(f"{READOUT}.mlp.0", last, ENERGY),))
    return tuple(groups)


def linear_spaces(_arch: NequIPArchitecture) -> tuple[str, ...]:
    """The embedding of the elements; all other features pass through a gate or through the convolution."""
    return ("node_feats.0",)


def _layer(arch: NequIPArchitecture, t: int) -> Iterator[tuple[LinearMap, ...]]:
    space, name = labelled_spaces(arch), layer_name(t)
    yield (LinearMap.of_module(f"{name}.linear_1", space[f"node_feats.{t}"], space[f"edge_irreps.{t}"]),)
    messages = e3nn.simplified(message_paths(arch, t, space))
    added = (f"{name}.sc",) if arch.self_connections[t] else ()
    yield (LinearMap.of_module(f"{name}.linear_2", messages, gate_inputs(arch, t), *added),)
