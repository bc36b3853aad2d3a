"""SevenNet's feature spaces and the layout of each of its parameters.

Interaction t maps ``node_feats.t`` to ``node_feats.{t+1}``: a self-connection and ``self_interaction_1`` read the old
features, the convolution mixes ``edge_irreps.t`` (the output of ``self_interaction_1``) with the edges, and
``self_interaction_2`` makes the gate input (sevenn/model_build.py, sevenn/nn/interaction_blocks.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.sevennet.architecture import HeadUse, Rescale, SelfConnection, SevenNetArchitecture
from equiprune.blocks import (
    Axis,
    Entries,
    FeatureSpace,
    HighestL,
    Irrep,
    Irreps,
    IrrepsText,
    KeepsScalars,
    Labelled,
    NumberOfChannels,
    PrefixOnly,
    PruningPlan,
    Role,
    Rule,
    SameCounts,
    Segment,
    Site,
    WeightLayout,
    resized,
)

_ZERO_AT_ZERO = {"silu", "tanh", "ssp", "abs", "relu", "elu"}


def feature_spaces(arch: SevenNetArchitecture) -> tuple[FeatureSpace, ...]:
    """Every space a plan may prune, inputs first."""
    return tuple(_spaces(arch))


def _spaces(arch: SevenNetArchitecture) -> Iterator[FeatureSpace]:
    elements, heads = Irreps.scalars(len(arch.elements)), Irreps.scalars(len(arch.heads))
    yield FeatureSpace("elements", elements, Role.ELEMENTS, Site.NONE, size_in=(Entries("elements"),))
    if arch.heads:
        yield FeatureSpace("heads", heads, Role.HEADS, Site.NONE, size_in=(Entries("heads"),))
    degrees = (HighestL("edge_lmax"),)
    yield FeatureSpace("edge_attrs", arch.edge_attrs, Role.EDGE_ATTRS, Site.EDGE, (PrefixOnly(),), size_in=degrees)
    if arch.radial_basis_trainable:  # fixed frequencies follow from their number: no subset can be expressed
        basis, number = Irreps.scalars(arch.radial_basis), (NumberOfChannels("radial_basis"),)
        yield FeatureSpace("radial_basis", basis, Role.RADIAL_BASIS, Site.EDGE, size_in=number)
    for t in range(arch.interactions + 1):
        yield from _hidden_spaces(arch, t)
    for i, width in enumerate(arch.readout_hidden):
        yield FeatureSpace(
            f"readout.{i}",
            Irreps.scalars(width),
            Role.READOUT,
            size_in=(NumberOfChannels("readout_hidden", i),),
            zero_preserving=arch.readout_activation in _ZERO_AT_ZERO,
        )


def _hidden_spaces(arch: SevenNetArchitecture, t: int) -> Iterator[FeatureSpace]:
    """The features after t interactions, and what the next one makes of them."""
    irreps, last = arch.irreps[t], t == arch.interactions
    fewest: tuple[Rule, ...] = (KeepsScalars(2),) if not arch.readout_hidden else ()
    together = (SameCounts(f"hidden.{t}"),)
    yield FeatureSpace(
        f"node_feats.{t}",
        irreps,
        Role.NODE_FEATS,
        rules=fewest if last else together,
        size_in=(IrrepsText("hidden_irreps", t),),
        zero_preserving=t == 0 or {*arch.act_scalar.values(), *arch.act_gate.values()} <= _ZERO_AT_ZERO,
    )
    if last:
        return
    yield FeatureSpace(f"edge_irreps.{t}", irreps, Role.EDGE_IRREPS, rules=together)
    for i, width in enumerate(arch.radial_widths):
        yield FeatureSpace(
            f"radial.{t}.{i}",
            Irreps.scalars(width),
            Role.RADIAL_WIDTH,
            Site.EDGE,
            rules=(SameCounts(f"radial.{i}"),),
            size_in=(NumberOfChannels("radial_widths", i),),
            zero_preserving=arch.act_radial in _ZERO_AT_ZERO,
        )


def weight_layouts(arch: SevenNetArchitecture) -> Mapping[str, WeightLayout]:
    """The layout of every parameter of the module that upstream builds, by its upstream name."""
    space = {s.name: e3nn.labelled(s) for s in feature_spaces(arch)}
    head = space.get("heads", ())
    use = arch.head_use
    layouts: dict[str, WeightLayout] = {}
    if arch.radial_basis_trainable:
        layouts["edge_embedding.basis_function.coeffs"] = WeightLayout.dense(e3nn.axis(space["radial_basis"]))
    layouts |= e3nn.linear(
        "onehot_to_feature_x.linear",
        space["elements"] + (head if use.embedding else ()),
        space["node_feats.0"],
        biases=arch.bias,
    )
    for t in range(arch.interactions):
        layouts |= _interaction(arch, t, space)
    return layouts | _readout(arch, space) | _rescale(arch, space)


def message_paths(arch: SevenNetArchitecture, t: int, space: Mapping[str, Labelled]) -> Labelled:
    """The messages of an interaction, one entry for each path of the convolution; ``space`` has each space's irreps."""
    return e3nn.uvu_paths(space[f"edge_irreps.{t}"], arch.edge_attrs, lambda ir: arch.message_allowed(t, ir))


def _interaction(arch: SevenNetArchitecture, t: int, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    before, edge_irreps = space[f"node_feats.{t}"], space[f"edge_irreps.{t}"]
    head, use = space.get("heads", ()), arch.head_use
    gate_in = e3nn.gate_inputs(f"node_feats.{t + 1}", arch.irreps[t + 1])
    paths = message_paths(arch, t, space)
    basis = e3nn.axis(space["radial_basis"]) if "radial_basis" in space else (Segment.fixed(arch.radial_basis),)
    hidden = [e3nn.axis(space[f"radial.{t}.{i}"]) for i in range(len(arch.radial_widths))]
    denominator = WeightLayout.dense((Segment.fixed(1),), trainable=arch.train_denominator)
    return {
        **_self_connection(arch, t, before, e3nn.axis(space["elements"]), gate_in),
        **e3nn.linear(
            f"{t}_self_interaction_1.linear",
            before + (head if use.self_interaction_1 else ()),
            edge_irreps,
            biases=arch.bias,
        ),
        **e3nn.fully_connected_net(f"{t}_convolution.weight_nn", [basis, *hidden, e3nn.axis(paths)]),
        **e3nn.linear(
            f"{t}_self_interaction_2.linear",
            e3nn.simplified(paths) + (head if use.self_interaction_2 else ()),
            gate_in,
            biases=arch.bias,
        ),
        f"{t}_convolution.denominator": denominator,
    }


def _self_connection(
    arch: SevenNetArchitecture, t: int, before: Labelled, elements: Axis, gate_in: Labelled
) -> dict[str, WeightLayout]:
    match arch.self_connection[t]:
        case SelfConnection.LINEAR:
            return e3nn.linear(f"{t}_self_connection_intro.linear", before, gate_in)
        case SelfConnection.NEQUIP:
            return e3nn.fully_connected_tensor_product(
                f"{t}_self_connection_intro.fc_tensor_product", before, elements, gate_in
            )


def _readout(arch: SevenNetArchitecture, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    last = space[f"node_feats.{arch.interactions}"]
    energy = (Segment.fixed(1),)
    if arch.readout_hidden:
        hidden = [e3nn.axis(space[f"readout.{i}"]) for i in range(len(arch.readout_hidden))]
        return e3nn.fully_connected_net("readout_FCN.fcn", [e3nn.axis(last), *hidden, energy])
    scalar = Irrep(0, 1)
    inner: Labelled = ((scalar, (Segment.fixed(arch.readout_width),)),)
    head = space.get("heads", ()) if arch.head_use.readout else ()
    return {
        **e3nn.linear("reduce_input_to_hidden.linear", last + head, inner, biases=arch.bias),
        **e3nn.linear("reduce_hidden_to_energy.linear", inner, ((scalar, energy),), biases=arch.bias),
    }


def _rescale(arch: SevenNetArchitecture, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    elements = e3nn.axis(space["elements"])

    def layout(per_head: bool) -> WeightLayout:
        match arch.rescale:
            case Rescale.GLOBAL:
                axes: tuple[Axis, ...] = ((Segment.fixed(1),),)
            case Rescale.PER_ELEMENT:
                axes = (elements,)
            case Rescale.PER_HEAD:
                axes = (e3nn.axis(space["heads"]), elements) if per_head else (elements,)
        return WeightLayout.dense(*axes, trainable=arch.train_rescale)

    return {
        "rescale_atomic_energy.shift": layout(arch.head_use.shift),
        "rescale_atomic_energy.scale": layout(arch.head_use.scale),
    }


def shrink(arch: SevenNetArchitecture, plan: PruningPlan) -> SevenNetArchitecture:
    """The hyperparameters that a plan leaves."""
    smaller: SevenNetArchitecture = resized(arch, feature_spaces(arch), plan)
    width = 0 if arch.readout_hidden else smaller.irreps[-1].dim // 2
    smaller = replace(smaller, readout_width=width)
    return single_head(smaller) if len(smaller.heads) == 1 else smaller


def single_head(arch: SevenNetArchitecture) -> SevenNetArchitecture:
    """The same model without an axis of heads; what a head added to a linear map becomes its bias."""
    use = arch.head_use
    needs_bias = use.embedding or use.self_interaction_1 or use.self_interaction_2 or use.readout
    return replace(arch, heads=(), head_use=HeadUse(), bias=arch.bias or needs_bias, rescale=Rescale.PER_ELEMENT)
