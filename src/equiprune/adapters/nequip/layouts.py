"""NequIP's feature spaces and the layout of each of its parameters.

Layer t maps ``node_feats.t`` to ``node_feats.{t+1}``: ``linear_1`` and the self-connection read the old features, the
convolution mixes ``edge_irreps.t`` (the output of ``linear_1``) with the edges, and ``linear_2`` makes the input of the
gate (nequip/nn/interaction_block.py, nequip/nn/convnetlayer.py). ``node_feats.0`` is the embedding of the elements,
which every self-connection multiplies features with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import sqrt

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.nequip.architecture import Constants, NequIPArchitecture
from equiprune.blocks import (
    Axis,
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
    SizeField,
    WeightLayout,
)
from equiprune.blocks.layout import axis_size

NETWORK = "model.func"
"""Name of the sequence of upstream's modules inside ``GraphModel`` and ``ForceStressOutput``."""
READOUT = f"{NETWORK}.per_atom_energy_readout.mlp_module"
ENERGIES = f"{NETWORK}.per_type_energy_scale_shift"
FREQUENCIES = f"{NETWORK}.bessel_encode.bessel_weights"
_ONE: Axis = (Segment.fixed(1),)


def feature_spaces(arch: NequIPArchitecture) -> tuple[FeatureSpace, ...]:
    """Every space a plan may prune, inputs first."""
    return tuple(_spaces(arch))


def _spaces(arch: NequIPArchitecture) -> Iterator[FeatureSpace]:
    elements = Irreps.scalars(len(arch.elements))
    yield FeatureSpace("elements", elements, Role.ELEMENTS, Site.NONE, size_in=tuple(_of_elements(arch)))
    degrees = (HighestL("edge_lmax"),)
    yield FeatureSpace("edge_attrs", arch.edge_attrs, Role.EDGE_ATTRS, Site.EDGE, (PrefixOnly(),), size_in=degrees)
    basis, number = Irreps.scalars(arch.radial_basis), (NumberOfChannels("radial_basis"),)
    trained = arch.radial_basis_trained  # frequencies that are not are no weights that could be zero
    yield FeatureSpace("radial_basis", basis, Role.RADIAL_BASIS, Site.EDGE, size_in=number, zero_preserving=trained)
    for t in range(arch.layers):
        yield from _hidden_spaces(arch, t)
    last = (IrrepsText("hidden_irreps", arch.layers - 1),)
    yield FeatureSpace(f"node_feats.{arch.layers}", arch.features(arch.layers), Role.NODE_FEATS, size_in=last)
    for i, width in enumerate(arch.readout_widths):
        yield FeatureSpace(
            f"readout.{i}",
            Irreps.scalars(width),
            Role.READOUT,
            rules=(SameCounts("readout"),),
            size_in=(NumberOfChannels("readout_widths", i),),
        )


def _of_elements(arch: NequIPArchitecture) -> Iterator[SizeField]:
    """Fields with an entry for every element."""
    yield Entries("elements")
    if len(arch.average_neighbors) > 1:
        yield Entries("average_neighbors")


def _hidden_spaces(arch: NequIPArchitecture, t: int) -> Iterator[FeatureSpace]:
    """The features before a layer, what it sends of them, and the neurons of its radial network."""
    together = (SameCounts(f"hidden.{t}"),)
    size = IrrepsText("hidden_irreps", t - 1) if t else NumberOfChannels("embedding")
    yield FeatureSpace(f"node_feats.{t}", arch.features(t), Role.NODE_FEATS, rules=together, size_in=(size,))
    yield FeatureSpace(f"edge_irreps.{t}", arch.features(t), Role.EDGE_IRREPS, rules=together)
    for i in range(arch.radial_depths[t]):
        yield FeatureSpace(
            f"radial.{t}.{i}",
            Irreps.scalars(arch.radial_widths[t]),
            Role.RADIAL_WIDTH,
            Site.EDGE,
            rules=(SameCounts(f"radial.{t}"),),
            size_in=(NumberOfChannels("radial_widths", t),),
        )


def labelled_spaces(arch: NequIPArchitecture) -> dict[str, Labelled]:
    """The irreps of every space by its name."""
    return {space.name: e3nn.labelled(space) for space in feature_spaces(arch)}


def weight_layouts(arch: NequIPArchitecture) -> Mapping[str, WeightLayout]:
    """The layout of every parameter of the module that upstream builds, and of the constants that it stores."""
    space = labelled_spaces(arch)
    elements, embedding, basis = (e3nn.axis(space[name]) for name in ("elements", "node_feats.0", "radial_basis"))
    frequencies = WeightLayout.dense if arch.radial_basis_trained else WeightLayout.constant
    layouts = {
        f"{NETWORK}.type_embed.embed_module.weight": WeightLayout.dense(elements, embedding),
        FREQUENCIES: frequencies(_ONE, basis),
    }
    for t in range(arch.layers):
        layouts |= _layer(arch, t, space)
    hidden = [e3nn.axis(space[f"readout.{i}"]) for i in range(len(arch.readout_widths))]
    layouts |= _network(READOUT, [e3nn.axis(space[f"node_feats.{arch.layers}"]), *hidden, _ONE])
    return layouts | _constants("scales", arch.scales, elements) | _constants("shifts", arch.shifts, elements)


def _constants(name: str, constants: Constants, elements: Axis) -> dict[str, WeightLayout]:
    """Scales or shifts, with a row for every element."""
    if not constants.given:
        return {}
    layout = WeightLayout.dense(elements, _ONE) if constants.trained else WeightLayout.constant(elements, _ONE)
    return {f"{ENERGIES}.{name}": layout}


def layer_name(t: int) -> str:
    """Name of a layer's interaction block."""
    return f"{NETWORK}.layer{t}_convnet.conv"


def message_paths(arch: NequIPArchitecture, t: int, space: Mapping[str, Labelled]) -> Labelled:
    """The messages of a layer, one entry for each path of the convolution."""
    return e3nn.uvu_paths(space[f"edge_irreps.{t}"], arch.edge_attrs, lambda ir: arch.message_allowed(t, ir))


def gate_inputs(arch: NequIPArchitecture, t: int) -> Labelled:
    """Input of the gate: scalars with the gates of all others behind them, and those."""
    return e3nn.gate_inputs(f"node_feats.{t + 1}", arch.features(t + 1))


def _layer(arch: NequIPArchitecture, t: int, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    name, old, gate_in = layer_name(t), space[f"node_feats.{t}"], gate_inputs(arch, t)
    weights = e3nn.uvu_weights(space[f"edge_irreps.{t}"], arch.edge_attrs, lambda ir: arch.message_allowed(t, ir))
    embedding = e3nn.axis(space["node_feats.0"])
    neurons = [e3nn.axis(space[f"radial.{t}.{i}"]) for i in range(arch.radial_depths[t])]
    layouts = {
        **e3nn.linear(f"{name}.linear_1", old, space[f"edge_irreps.{t}"]),
        **_network(f"{name}.edge_mlp", [e3nn.axis(space["radial_basis"]), *neurons, e3nn.axis(weights)]),
        **e3nn.linear(f"{name}.linear_2", e3nn.simplified(message_paths(arch, t, space)), gate_in),
    }
    if arch.self_connections[t]:
        layouts |= e3nn.fully_connected_tensor_product(f"{name}.sc", old, embedding, gate_in)
    return layouts


def _network(prefix: str, axes: Sequence[Axis]) -> dict[str, WeightLayout]:
    """``ScalarMLPFunction`` (nequip/nn/mlp.py): dense (in, out) matrices with activations between them.

    Each is divided by the root of its inputs, and all but the first are multiplied by the root of 2.
    """
    return {
        f"{prefix}.mlp.{2 * i}.weight": WeightLayout.dense(a, b, scale=sqrt((2 if i else 1) / axis_size(a)))
        for i, (a, b) in enumerate(pairwise(axes))
    }


ENERGY: Labelled = ((Irrep(0, 1), _ONE),)
"""Columns that the readout makes: one energy of an atom."""
