"""MACE's linear maps by where they are seen, in the order of the forward pass.

``linear_up`` reads the features, ``linear`` the messages that its outputs became (in gated blocks ``linear_1`` does,
beside ``linear_res``, and ``linear_2`` reads what the gate leaves), the linear map of the product what
the symmetric contraction makes of the A-basis; in residual blocks ``skip_tp`` is added to it. Linear readouts read the
features, and what they give is added up.
"""

from __future__ import annotations

from collections.abc import Iterator

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.mace.architecture import Block, MaceArchitecture, ReadoutKind
from equiprune.adapters.mace.layouts import (
    feature_spaces,
    gate_inputs,
    head_axis,
    message_paths,
    messages,
    product_channels,
)
from equiprune.blocks import Irrep, Labelled, LinearMap


def linear_maps(arch: MaceArchitecture) -> tuple[tuple[LinearMap, ...], ...]:
    """Groups of one map each."""
    return tuple((linear,) for linear in _maps(arch))


def linear_spaces(arch: MaceArchitecture) -> tuple[str, ...]:
    """All features of atoms between interactions: products make them, and what is not linear comes later.

    Where charge and spin are embedded, the first ones are not: an activation makes a part of them.
    """
    return tuple(f"node_feats.{t}" for t in range(1 if arch.embeddings else 0, len(arch.steps) + 1))


def _maps(arch: MaceArchitecture) -> Iterator[LinearMap]:
    space = {s.name: e3nn.labelled(s) for s in feature_spaces(arch)}
    readout, earlier = 0, list[str]()
    for t, step in enumerate(arch.steps):
        name, after = f"interactions.{t}", space[f"node_feats.{t + 1}"]
        yield LinearMap.of_module(f"{name}.linear_up", space[f"node_feats.{t}"], space[f"edge_irreps.{t}"])
        paths = e3nn.simplified(message_paths(arch, t, space))
        if step.block is Block.GATED:
            gate = gate_inputs(step, t)
            yield LinearMap.of_module(f"{name}.linear_res", space[f"edge_irreps.{t}"], gate)
            yield LinearMap.of_module(f"{name}.linear_1", paths, gate)
            yield LinearMap.of_module(f"{name}.linear_2", space[f"messages.{t}"], space[f"a_basis.{t}"])
        else:
            yield LinearMap.of_module(f"{name}.linear", paths, messages(arch, t, space))
        products: Labelled = tuple((ir, product_channels(arch, t)) for ir, _ in after)
        yield LinearMap.of_module(
            f"products.{t}.linear", products, after, *([f"{name}.skip_tp"] if step.block.residual else [])
        )
        if step.readout.kind is ReadoutKind.LINEAR:
            scalars: Labelled = tuple(entry for entry in after if entry[0].is_scalar)
            yield LinearMap.of_module(
                f"readouts.{readout}.linear", scalars, ((Irrep(0, 1), head_axis(arch)),), *earlier
            )
            earlier.append(f"readouts.{readout}.linear")
        readout += step.readout.kind is not ReadoutKind.NONE
