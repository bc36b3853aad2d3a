"""SevenNet's feature spaces and the layout of each of its parameters.

Interaction t maps ``node_feats.t`` to ``node_feats.{t+1}``: a self-connection and ``self_interaction_1`` read the old
features, the convolution mixes ``edge_irreps.t`` (the output of ``self_interaction_1``) with the edges, and
``self_interaction_2`` makes the gate input (sevenn/model_build.py, sevenn/nn/interaction_blocks.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.e3nn.layouts import Labelled
from equiprune.adapters.sevennet.architecture import HeadUse, Rescale, SelfConnection, SevenNetArchitecture
from equiprune.blocks import (
    Axis,
    FeatureSpace,
    Irrep,
    Irreps,
    PruningPlan,
    Role,
    Segment,
    Site,
    WeightLayout,
)

_SCALAR = Irrep(0, 1)
_ZERO_AT_ZERO = {"silu", "tanh", "ssp", "abs", "relu", "elu"}


def feature_spaces(arch: SevenNetArchitecture) -> tuple[FeatureSpace, ...]:
    """Every space a plan may prune, inputs first."""
    return tuple(_spaces(arch))


def _spaces(arch: SevenNetArchitecture) -> Iterator[FeatureSpace]:
    yield FeatureSpace("elements", Irreps.scalars(len(arch.elements)), Role.ELEMENTS, Site.NONE)
    if arch.heads:
        yield FeatureSpace("heads", Irreps.scalars(len(arch.heads)), Role.HEADS, Site.NONE)
    yield FeatureSpace("edge_attrs", arch.edge_attrs, Role.EDGE_ATTRS, Site.EDGE, ordered=True)
    if arch.radial_basis_trainable:  # fixed frequencies follow from their number: no subset can be expressed
        yield FeatureSpace("radial_basis", Irreps.scalars(arch.radial_basis), Role.RADIAL_BASIS, Site.EDGE)
    radial_zero = arch.act_radial in _ZERO_AT_ZERO
    gate_zero = {*arch.act_scalar.values(), *arch.act_gate.values()} <= _ZERO_AT_ZERO
    for t, irreps in enumerate(arch.irreps):
        last = t == arch.interactions
        group = "" if last else f"hidden.{t}"
        least = 2 if last and not arch.readout_hidden else 1
        yield FeatureSpace(
            f"node_feats.{t}",
            irreps,
            Role.NODE_FEATS,
            size_group=group,
            minimum=least,
            zero_preserving=t == 0 or gate_zero,
        )
        if not last:
            yield FeatureSpace(f"edge_irreps.{t}", irreps, Role.EDGE_IRREPS, size_group=group)
            for i, width in enumerate(arch.radial_widths):
                yield FeatureSpace(
                    f"radial.{t}.{i}",
                    Irreps.scalars(width),
                    Role.RADIAL_WIDTH,
                    Site.EDGE,
                    size_group=f"radial.{i}",
                    zero_preserving=radial_zero,
                )
    for i, width in enumerate(arch.readout_hidden):
        zero = arch.readout_activation in _ZERO_AT_ZERO
        yield FeatureSpace(f"readout.{i}", Irreps.scalars(width), Role.READOUT, zero_preserving=zero)


def weight_layouts(arch: SevenNetArchitecture) -> Mapping[str, WeightLayout]:
    """The layout of every parameter of the module that upstream builds, by its upstream name."""
    space = {s.name: e3nn.labelled(s) for s in feature_spaces(arch)}
    head = space.get("heads", ())
    use = arch.head_use
    layouts: dict[str, WeightLayout] = {}
    if arch.radial_basis_trainable:
        layouts["edge_embedding.basis_function.coeffs"] = WeightLayout.dense(_axis(space["radial_basis"]))
    layouts |= e3nn.linear(
        "onehot_to_feature_x.linear",
        space["elements"] + (head if use.embedding else ()),
        space["node_feats.0"],
        biases=arch.bias,
    )
    for t in range(arch.interactions):
        layouts |= _interaction(arch, t, space)
    return layouts | _readout(arch, space) | _rescale(arch, space)


def _axis(entries: Labelled) -> Axis:
    return tuple(segment for _, axis in entries for segment in axis)


def _interaction(arch: SevenNetArchitecture, t: int, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    before, edge_irreps = space[f"node_feats.{t}"], space[f"edge_irreps.{t}"]
    head, use = space.get("heads", ()), arch.head_use
    gate_in = e3nn.gate_inputs(f"node_feats.{t + 1}", arch.irreps[t + 1])
    paths = e3nn.uvu_paths(edge_irreps, arch.edge_attrs, lambda ir: arch.message_allowed(t, ir))
    basis = _axis(space["radial_basis"]) if "radial_basis" in space else (Segment.fixed(arch.radial_basis),)
    hidden = [_axis(space[f"radial.{t}.{i}"]) for i in range(len(arch.radial_widths))]
    denominator = WeightLayout.dense((Segment.fixed(1),), trainable=arch.train_denominator)
    return {
        **_self_connection(arch, t, before, _axis(space["elements"]), gate_in),
        **e3nn.linear(
            f"{t}_self_interaction_1.linear",
            before + (head if use.self_interaction_1 else ()),
            edge_irreps,
            biases=arch.bias,
        ),
        **e3nn.fully_connected_net(f"{t}_convolution.weight_nn", [basis, *hidden, _axis(paths)]),
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
        hidden = [_axis(space[f"readout.{i}"]) for i in range(len(arch.readout_hidden))]
        return e3nn.fully_connected_net("readout_FCN.fcn", [_axis(last), *hidden, energy])
    scalar = Irrep(0, 1)
    inner: Labelled = ((scalar, (Segment.fixed(arch.readout_width),)),)
    head = space.get("heads", ()) if arch.head_use.readout else ()
    return {
        **e3nn.linear("reduce_input_to_hidden.linear", last + head, inner, biases=arch.bias),
        **e3nn.linear("reduce_hidden_to_energy.linear", inner, ((scalar, energy),), biases=arch.bias),
    }


def _rescale(arch: SevenNetArchitecture, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    elements = _axis(space["elements"])

    def layout(per_head: bool) -> WeightLayout:
        match arch.rescale:
            case Rescale.GLOBAL:
                axes: tuple[Axis, ...] = ((Segment.fixed(1),),)
            case Rescale.PER_ELEMENT:
                axes = (elements,)
            case Rescale.PER_HEAD:
                axes = (_axis(space["heads"]), elements) if per_head else (elements,)
        return WeightLayout.dense(*axes, trainable=arch.train_rescale)

    return {
        "rescale_atomic_energy.shift": layout(arch.head_use.shift),
        "rescale_atomic_energy.scale": layout(arch.head_use.scale),
    }


def shrink(arch: SevenNetArchitecture, plan: PruningPlan) -> SevenNetArchitecture:
    """The hyperparameters that a plan leaves."""
    kept = {space.name: plan.mask(space).kept_irreps for space in feature_spaces(arch)}
    hidden = tuple(kept[f"node_feats.{t}"] for t in range(arch.interactions + 1))
    elements = plan.kept("elements", _SCALAR, len(arch.elements))
    smaller = replace(
        arch,
        elements=tuple(arch.elements[i] for i in elements),
        hidden_irreps=tuple(map(str, hidden)),
        edge_lmax=kept["edge_attrs"].lmax,
        radial_basis=kept["radial_basis"].channels if "radial_basis" in kept else arch.radial_basis,
        radial_widths=tuple(kept[f"radial.0.{i}"].channels for i in range(len(arch.radial_widths))),
        readout_hidden=tuple(kept[f"readout.{i}"].channels for i in range(len(arch.readout_hidden))),
        readout_width=0 if arch.readout_hidden else hidden[-1].dim // 2,
    )
    heads = plan.kept("heads", _SCALAR, len(arch.heads))
    if len(heads) == 1:
        return single_head(smaller)
    return replace(smaller, heads=tuple(arch.heads[i] for i in heads))


def single_head(arch: SevenNetArchitecture) -> SevenNetArchitecture:
    use = arch.head_use
    needs_bias = use.embedding or use.self_interaction_1 or use.self_interaction_2 or use.readout
    return replace(arch, heads=(), head_use=HeadUse(), bias=arch.bias or needs_bias, rescale=Rescale.PER_ELEMENT)
