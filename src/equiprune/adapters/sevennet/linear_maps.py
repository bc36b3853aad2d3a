"""SevenNet's linear maps by where they are seen, in the order of the forward pass.

The self-connection and ``self_interaction_1`` read the features, ``self_interaction_2`` reads the messages that the
latter's outputs became, and what it makes is added to the self-connection before the gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.sevennet.architecture import SelfConnection, SevenNetArchitecture
from equiprune.adapters.sevennet.layouts import feature_spaces, message_paths
from equiprune.blocks import Irrep, Labelled, LinearMap, Segment


def linear_maps(arch: SevenNetArchitecture) -> tuple[tuple[LinearMap, ...], ...]:
    """Groups of maps; the readout's two are one, since the channels between them are no feature space."""
    space = {s.name: e3nn.labelled(s) for s in feature_spaces(arch)}
    groups = [group for t in range(arch.interactions) for group in _interaction(arch, t, space)]
    if not arch.readout_hidden:
        scalar = Irrep(0, 1)
        inner: Labelled = ((scalar, (Segment.fixed(arch.readout_width),)),)
        energy: Labelled = ((scalar, (Segment.fixed(1),)),)
        last = space[f"node_feats.{arch.interactions}"] + (_head(space) if arch.head_use.readout else ())
        onward = LinearMap.of_module("reduce_hidden_to_energy.linear", inner, energy)
        groups.append((replace(LinearMap.of_module("reduce_input_to_hidden.linear", last, inner), onward=onward),))
    return tuple(groups)


def linear_spaces(arch: SevenNetArchitecture) -> tuple[str, ...]:
    """The embedding of the elements; all other features pass through a gate or through the convolution."""
    return () if arch.bias else ("node_feats.0",)


def _interaction(arch: SevenNetArchitecture, t: int, space: Mapping[str, Labelled]) -> Iterator[tuple[LinearMap, ...]]:
    before, edge_irreps, head, use = space[f"node_feats.{t}"], space[f"edge_irreps.{t}"], _head(space), arch.head_use
    gate_in = e3nn.gate_inputs(f"node_feats.{t + 1}", arch.irreps[t + 1])
    up = LinearMap.of_module(
        f"{t}_self_interaction_1.linear", before + (head if use.self_interaction_1 else ()), edge_irreps
    )
    linear = arch.self_connection[t] is SelfConnection.LINEAR
    skip = f"{t}_self_connection_intro.{'linear' if linear else 'fc_tensor_product'}"
    yield (up, LinearMap.of_module(skip, before, gate_in)) if linear else (up,)
    messages = e3nn.simplified(message_paths(arch, t, space)) + (head if use.self_interaction_2 else ())
    yield (LinearMap.of_module(f"{t}_self_interaction_2.linear", messages, gate_in, skip),)


def _head(space: Mapping[str, Labelled]) -> Labelled:
    return space.get("heads", ())
