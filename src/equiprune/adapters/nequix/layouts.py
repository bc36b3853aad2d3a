"""Nequix's feature spaces and the layout of each of its parameters.

Layer t maps ``node_feats.t`` to ``node_feats.{t+1}``: ``skip`` and ``linear_1`` read the old features, the convolution
mixes ``edge_irreps.t`` (the output of ``linear_1``) with the edges, and ``linear_2`` makes the input of norm and gate
(nequix/torch_impl/model.py). The first layer reads the one-hot elements; there are no ``node_feats.0``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import sqrt

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.nequix.architecture import NequixArchitecture
from equiprune.blocks import (
    Entries,
    FeatureSpace,
    HighestL,
    Irrep,
    Irreps,
    IrrepsText,
    Labelled,
    NumberOfChannels,
    PrefixOnly,
    Role,
    SameCounts,
    Segment,
    Site,
    WeightLayout,
)

FIRST_CHANNELS = Role("first_channels")
"""Scalars that the first layer sends; upstream gives it as many as there are elements."""
_HIDDEN = SameCounts("hidden")
"""One argument gives the irreps of all layers."""


def feature_spaces(arch: NequixArchitecture) -> tuple[FeatureSpace, ...]:
    """Every space a plan may prune, inputs first."""
    return tuple(_spaces(arch))


def _spaces(arch: NequixArchitecture) -> Iterator[FeatureSpace]:
    elements = Irreps.scalars(len(arch.elements))
    yield FeatureSpace("elements", elements, Role.ELEMENTS, Site.NONE, size_in=(Entries("elements"),))
    degrees = (HighestL("edge_lmax"),)
    yield FeatureSpace("edge_attrs", arch.edge_attrs, Role.EDGE_ATTRS, Site.EDGE, (PrefixOnly(),), size_in=degrees)
    # Frequency n is n times the first, so that the first few are all that can be built.
    basis, number = Irreps.scalars(arch.radial_basis), (NumberOfChannels("radial_basis"),)
    yield FeatureSpace("radial_basis", basis, Role.RADIAL_BASIS, Site.EDGE, (PrefixOnly(),), size_in=number)
    first = (NumberOfChannels("first_channels"),)
    yield FeatureSpace("edge_irreps.0", arch.sent(0), FIRST_CHANNELS, size_in=first)
    for t in range(arch.layers):
        yield from _of_layer(arch, t)


def _of_layer(arch: NequixArchitecture, t: int) -> Iterator[FeatureSpace]:
    """The neurons of a layer's radial network, the features it makes, and what the next layer sends."""
    for i in range(arch.radial_layers):
        yield FeatureSpace(
            f"radial.{t}.{i}",
            Irreps.scalars(arch.radial_width),
            Role.RADIAL_WIDTH,
            Site.EDGE,
            (SameCounts("radial"),),
            size_in=(NumberOfChannels("radial_width"),),
        )
    yield FeatureSpace(
        f"node_feats.{t + 1}",
        arch.made(t),
        Role.NODE_FEATS,
        rules=(_HIDDEN,),
        size_in=(IrrepsText("hidden_irreps"),) if t + 1 < arch.layers or t == 0 else (),
        normalised=arch.layer_norm,
    )
    if t + 1 < arch.layers:
        yield FeatureSpace(f"edge_irreps.{t + 1}", arch.made(t), Role.EDGE_IRREPS, rules=(_HIDDEN,))


def labelled_spaces(arch: NequixArchitecture) -> dict[str, Labelled]:
    """The irreps of every space by its name."""
    return {space.name: e3nn.labelled(space) for space in feature_spaces(arch)}


def weight_layouts(arch: NequixArchitecture) -> Mapping[str, WeightLayout]:
    """The layout of every parameter of the module that upstream builds, and of the atomic reference energies."""
    space = labelled_spaces(arch)
    layouts = {"atom_energies": WeightLayout.constant(e3nn.axis(space["elements"]))}
    for t in range(arch.layers):
        layouts |= _layer(arch, t, space)
    energy: Labelled = ((Irrep(0, 1), (Segment.fixed(1),)),)
    return layouts | e3nn.linear("readout", space[f"node_feats.{arch.layers}"], energy)


def before(t: int) -> str:
    """Name of the space that layer t reads."""
    return f"node_feats.{t}" if t else "elements"


def message_paths(arch: NequixArchitecture, t: int, space: Mapping[str, Labelled]) -> Labelled:
    """The messages of a layer, one entry for each path of the convolution."""
    return e3nn.uvu_paths(space[f"edge_irreps.{t}"], arch.edge_attrs, lambda ir: arch.message_allowed(t, ir))


def gate_inputs(arch: NequixArchitecture, t: int) -> Labelled:
    """Input of norm and gate: scalars with the gates of all others behind them, and those."""
    return e3nn.gate_inputs(f"node_feats.{t + 1}", arch.made(t))


def _layer(arch: NequixArchitecture, t: int, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    name, old, gate_in = f"layers.{t}", space[before(t)], gate_inputs(arch, t)
    paths = message_paths(arch, t, space)
    neurons = [e3nn.axis(space[f"radial.{t}.{i}"]) for i in range(arch.radial_layers)]
    axes = [e3nn.axis(space["radial_basis"]), *neurons, e3nn.axis(paths)]
    return {
        **e3nn.linear(f"{name}.linear_1", old, space[f"edge_irreps.{t}"]),
        **{f"{name}.radial_mlp.layers.{i}.weights": WeightLayout.dense(*pair) for i, pair in enumerate(pairwise(axes))},
        **e3nn.linear(f"{name}.linear_2", e3nn.simplified(paths), gate_in),
        **e3nn.linear(f"{name}.skip", old, gate_in),
        **(_norm(name, gate_in) if arch.layer_norm else {}),
    }


def _norm(name: str, entries: Labelled) -> dict[str, WeightLayout]:
    """Weights of the norm, an entry each.

    What they multiply was divided by the root of a mean over entries, so that it grows with the root of their number
    (nequix/torch_impl/layer_norm.py): a constant that slicing keeps, as it does those of linear maps.
    """
    return {
        f"{name}.layer_norm.affine_weight.{k}": WeightLayout.dense(
            axis, scale=sqrt(len(entries)), identity=f"{name}.layer_norm.{ir}"
        )
        for k, (ir, axis) in enumerate(entries)
    }
