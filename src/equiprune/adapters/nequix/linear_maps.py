"""Nequix's linear maps by where they are seen, in the order of the forward pass.

``skip`` and ``linear_1`` read the features, ``linear_2`` reads the messages that the latter's outputs became, and what
it makes is added to the skip connection before norm and gate.
"""

from __future__ import annotations

from collections.abc import Iterator

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.nequix.architecture import NequixArchitecture
from equiprune.adapters.nequix.layouts import before, gate_inputs, labelled_spaces, message_paths
from equiprune.blocks import Irrep, Labelled, LinearMap, Segment


def linear_maps(arch: NequixArchitecture) -> tuple[tuple[LinearMap, ...], ...]:
    """Groups of maps, two of each layer and the readout."""
    space = labelled_spaces(arch)
    groups = [group for t in range(arch.layers) for group in _layer(arch, t)]
    energy: Labelled = ((Irrep(0, 1), (Segment.fixed(1),)),)
    groups.append((LinearMap.of_module("readout", space[f"node_feats.{arch.layers}"], energy),))
    return tuple(groups)


def linear_spaces(_arch: NequixArchitecture) -> tuple[str, ...]:
    """No space: features pass through a gate or through the convolution."""
    return ()


def _layer(arch: NequixArchitecture, t: int) -> Iterator[tuple[LinearMap, ...]]:
    space = labelled_spaces(arch)
    old, gate_in, skip = space[before(t)], gate_inputs(arch, t), f"layers.{t}.skip"
    sent = LinearMap.of_module(f"layers.{t}.linear_1", old, space[f"edge_irreps.{t}"])
    yield sent, LinearMap.of_module(skip, old, gate_in)
    messages = e3nn.simplified(message_paths(arch, t, space))
    yield (LinearMap.of_module(f"layers.{t}.linear_2", messages, gate_in, skip),)
