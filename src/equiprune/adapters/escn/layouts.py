"""eSCN's feature spaces and the layout of each of its parameters.

Layer k turns the features of both ends of an edge into its frame, mixes them by two linear maps with ``hidden``
channels between them, one pair per order m, real and imaginary, activates the sum on a sphere (``messages.k``), turns
back, adds up over neighbours, and mixes the result with the features on another sphere (``pointwise.k``). All layers
but the first add to the features. Heads read them at points of the sphere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from equiprune.adapters.escn.architecture import EscnArchitecture
from equiprune.blocks import (
    Axis,
    Entries,
    FeatureSpace,
    HighestL,
    Irrep,
    Irreps,
    KeepsFirst,
    KeepsOrder,
    NumberOfChannels,
    OneChannelSet,
    PruningPlan,
    Role,
    SameCounts,
    Segment,
    Site,
    SizeField,
    TopDown,
    WeightLayout,
    resized,
)
from equiprune.blocks.layout import EVERY_L

_SCALAR = Irrep(0, 1)
SIDES = ("source", "target")
HEADS = ("energy", "force")
CHANNELS = SameCounts("sphere_channels")
"""Everything that upstream gives one number of channels."""


def irrep(l: int) -> Irrep:
    """The features of degree l, with the parity of spherical harmonics."""
    return Irrep(l, (-1) ** l)


def feature_irreps(arch: EscnArchitecture) -> Irreps:
    """Irreps of features and messages."""
    return Irreps(tuple((arch.sphere_channels, irrep(l)) for l in range(arch.lmax + 1)))


def parts(arch: EscnArchitecture) -> tuple[str, ...]:
    """Pairs of linear maps of one side of a convolution: of order 0, and two of every higher order."""
    return ("m0", *(f"m{m}.{part}" for m in range(1, arch.mmax + 1) for part in ("real", "imaginary")))


def feature_spaces(arch: EscnArchitecture) -> tuple[FeatureSpace, ...]:
    """Every space a plan may prune, inputs first."""
    return tuple(_spaces(arch))


def _spaces(arch: EscnArchitecture) -> Iterator[FeatureSpace]:
    channels, layers = Irreps.scalars(arch.sphere_channels), Irreps.scalars(len(arch.layers))
    number = (NumberOfChannels("sphere_channels"),)
    yield FeatureSpace(
        "interactions", layers, Role.INTERACTIONS, rules=(KeepsFirst(1), KeepsOrder()), size_in=(Entries("layers"),)
    )
    yield FeatureSpace("node_feats.0", channels, Role.NODE_FEATS, rules=(CHANNELS,), size_in=number)
    yield _degrees(arch, "node_feats", Role.NODE_FEATS, Site.ATOM, HighestL("lmax"))
    for position, k in enumerate(arch.layers):
        layer = ("interactions", _SCALAR, position)
        yield from (replace(space, within=(layer, *space.within)) for space in _layer_spaces(arch, k))
    for head in HEADS:
        for i in range(2):
            yield FeatureSpace(f"{head}.{i}", channels, Role.READOUT, rules=(CHANNELS,))


def _layer_spaces(arch: EscnArchitecture, k: int) -> Iterator[FeatureSpace]:
    width, hidden = Irreps.scalars(arch.edge_channels), Irreps.scalars(arch.hidden_channels)
    first = k == arch.layers[0]  # which every plan keeps: it says how large the others are
    edge_rules, edge_size = (SameCounts("edge_channels"),), (NumberOfChannels("edge_channels"),) if first else ()
    for i in range(2):
        yield FeatureSpace(f"edge.{k}.{i}", width, Role.RADIAL_WIDTH, Site.EDGE, edge_rules, size_in=edge_size)
    for side in SIDES:
        for part in parts(arch):
            yield FeatureSpace(
                f"hidden.{k}.{side}.{part}",
                hidden,
                Role.HIDDEN_CHANNELS,
                Site.EDGE,
                rules=(SameCounts("hidden_channels"),),
                within=(("node_feats", irrep(int(part.partition(".")[0][1:])), None),),
                size_in=(NumberOfChannels("hidden_channels"),) if first and part == "m0" else (),
            )
    yield _degrees(arch, f"messages.{k}", Role.A_BASIS, Site.EDGE)
    for i in range(2):
        channels = Irreps.scalars(arch.sphere_channels)
        yield FeatureSpace(f"pointwise.{k}.{i}", channels, Role.POINTWISE, rules=(CHANNELS,))


def _degrees(arch: EscnArchitecture, name: str, role: Role, site: Site, *size_in: SizeField) -> FeatureSpace:
    """Features of every l: one set of channels for all, because they are activated as values on a sphere."""
    rules = (OneChannelSet(), CHANNELS, TopDown())
    return FeatureSpace(name, feature_irreps(arch), role, site, rules, size_in=size_in)


def weight_layouts(arch: EscnArchitecture) -> Mapping[str, WeightLayout]:
    """The layout of every parameter of the module that upstream builds."""
    layouts: dict[str, WeightLayout] = {
        "sphere_embedding.weight": WeightLayout.dense(_rows(arch), (_channels(arch, "node_feats.0"),))
    }
    for position, k in enumerate(arch.layers):
        named = {**_edge(arch, k), **_convolutions(arch, k), **_pointwise(arch, k)}
        for name, (kind, *axes) in named.items():
            layouts[f"layer_blocks.{position}.{name}"] = kind(*axes, identity=f"layer {k} {name}")
    for head in HEADS:
        layouts.update(_head(arch, head))
    return {**layouts, **_points(arch)}


def _rows(arch: EscnArchitecture) -> Axis:
    return (Segment.fixed(arch.max_num_elements),)


def _channels(arch: EscnArchitecture, space: str, use: str = EVERY_L) -> Segment:
    """Channels of a space, whatever their l."""
    return Segment(space, _SCALAR, arch.sphere_channels, use)


def _inputs(arch: EscnArchitecture, k: int, lowest: int) -> Axis:
    """Axis of the features that layer k reads, from degree ``lowest`` up. The first layer finds zeros above l = 0."""
    degrees = range(lowest, arch.lmax + 1)
    if k == 0:
        return tuple(_channels(arch, "node_feats.0", f"l{l}" if l else "") for l in degrees)
    return tuple(Segment("node_feats", irrep(l), arch.sphere_channels) for l in degrees)


Named = Mapping[str, tuple]


def _linear(name: str, outputs: Axis, inputs: Axis, *, bias: bool = True) -> Named:
    layouts: dict[str, tuple] = {f"{name}.weight": (WeightLayout.linear, outputs, inputs)}
    return layouts | ({f"{name}.bias": (WeightLayout.bias, outputs)} if bias else {})


def _edge(arch: EscnArchitecture, k: int) -> Named:
    name, width = "message_block.edge_block", arch.edge_channels
    first, second = ((Segment(f"edge.{k}.{i}", _SCALAR, width),) for i in range(2))
    tables = {
        f"{name}.{end}_embedding.weight": (WeightLayout.dense, _rows(arch), first) for end in ("source", "target")
    }
    return {
        **_linear(f"{name}.fc1_dist", first, (Segment.fixed(arch.distances),)),
        **tables,
        **_linear(f"{name}.fc1_edge_attr", second, first),
    }


def _convolutions(arch: EscnArchitecture, k: int) -> Named:
    named: dict[str, tuple] = {}
    edge: Axis = (Segment(f"edge.{k}.1", _SCALAR, arch.edge_channels),)
    for side in SIDES:
        name = f"message_block.so2_block_{side}"
        for m in range(arch.mmax + 1):
            messages = tuple(Segment(f"messages.{k}", irrep(l), arch.sphere_channels) for l in range(m, arch.lmax + 1))
            spaces = ["m0"] if m == 0 else [f"m{m}.real", f"m{m}.imaginary"]
            hidden = [f"hidden.{k}.{side}.{space}" for space in spaces]
            gates = tuple(Segment(space, _SCALAR, arch.hidden_channels, "gate") for space in hidden)
            suffixes = ["m0"] if m == 0 else ["r", "i"]
            before = name if m == 0 else f"{name}.so2_conv.{m - 1}"
            named |= _linear(f"{before}.fc1_dist0" if m == 0 else f"{before}.fc1_dist", gates, edge)
            for space, suffix in zip(hidden, suffixes, strict=True):
                inside: Axis = (Segment(space, _SCALAR, arch.hidden_channels),)
                named |= _linear(f"{before}.fc1_{suffix}", inside, _inputs(arch, k, m), bias=False)
                named |= _linear(f"{before}.fc2_{suffix}", messages, inside, bias=False)
    return named


def _pointwise(arch: EscnArchitecture, k: int) -> Named:
    first, second = (_channels(arch, f"pointwise.{k}.{i}", "") for i in range(2))
    features = _channels(arch, "node_feats.0", "sphere") if k == 0 else _channels(arch, "node_feats")
    inputs = (features, _channels(arch, f"messages.{k}"))
    return {
        **_linear("fc1_sphere", (first,), inputs, bias=False),
        **_linear("fc2_sphere", (second,), (first,), bias=False),
        **_linear("fc3_sphere", (_channels(arch, "node_feats", ""),), (second,), bias=False),
    }


def _head(arch: EscnArchitecture, head: str) -> Mapping[str, WeightLayout]:
    first, second = (_channels(arch, f"{head}.{i}", "") for i in range(2))
    named = {
        **_linear("fc1", (first,), (_channels(arch, "node_feats"),)),
        **_linear("fc2", (second,), (first,)),
        **_linear("fc3", (Segment.fixed(1),), (second,), bias=False),
    }
    return {f"{head}_block.{name}": kind(*axes) for name, (kind, *axes) in named.items()}


def _points(arch: EscnArchitecture) -> Mapping[str, WeightLayout]:
    """Layouts of the points where heads read the features: upstream keeps them and their harmonics as parameters."""
    points: Axis = (Segment.fixed(arch.sphere_samples),)
    harmonics = tuple(Segment("", irrep(l), 2 * l + 1) for l in range(arch.lmax + 1))
    return {
        "sphere_points": WeightLayout.dense(points, (Segment.fixed(3),), trainable=False),
        "sphharm_weights.0": WeightLayout.dense(points, harmonics, trainable=False),
    }


def shrink(arch: EscnArchitecture, plan: PruningPlan) -> EscnArchitecture:
    """The hyperparameters that a plan leaves; points on the sphere stay, so that nothing else changes."""
    smaller: EscnArchitecture = resized(arch, feature_spaces(arch), plan)
    return replace(smaller, mmax=min(arch.mmax, smaller.lmax))
