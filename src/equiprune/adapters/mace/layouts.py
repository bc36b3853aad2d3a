"""MACE's feature spaces and the layout of each of its parameters.

Interaction t reads ``node_feats.t``; ``linear_up`` makes ``edge_irreps.t``, the convolution mixes them with the edges,
``linear`` makes the A-basis ``a_basis.t`` (in blocks that are not residual it makes ``messages.t``, and ``skip_tp`` the
A-basis), products of up to ``correlation.t`` of them are mixed into ``node_feats.{t+1}``, from which a readout takes
the energy (mace/modules/blocks.py, mace/modules/models.py). ``node_feats.0`` is made of the species, and in models
that embed charge and spin of these as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.mace.architecture import (
    DENSITY_WIDTH,
    GATE_OF_LINEAR,
    Block,
    Interaction,
    MaceArchitecture,
    Radial,
    ReadoutKind,
    Transform,
)
from equiprune.adapters.mace.embeddings import joint_layouts
from equiprune.adapters.mace.normalised_neurons import NormalisedNeurons
from equiprune.adapters.mace.symmetric_contraction import coupling_paths
from equiprune.blocks import (
    Axis,
    Entries,
    FeatureSpace,
    HighestL,
    Irrep,
    Irreps,
    IrrepsText,
    KeepsDegrees,
    KeepsScalars,
    Labelled,
    NumberOfChannels,
    OneChannelSet,
    PrefixOnly,
    PruningPlan,
    Role,
    Rule,
    SameCounts,
    SameCountsUpstream,
    Segment,
    Site,
    WeightLayout,
    resized,
)
from equiprune.blocks.layout import EVERY_L

_SCALAR = Irrep(0, 1)
_ATOMIC_NUMBERS = 119
"""Length of upstream's tables of covalent radii, atomic numbers 0 to 118."""

CHANNELS = SameCountsUpstream("channels")
"""Everything that upstream gives one number of channels."""


def feature_spaces(arch: MaceArchitecture) -> tuple[FeatureSpace, ...]:
    """Every space a plan may prune, inputs first."""
    return tuple(_spaces(arch))


def _spaces(arch: MaceArchitecture) -> Iterator[FeatureSpace]:
    elements, heads = Irreps.scalars(len(arch.elements)), Irreps.scalars(len(arch.heads))
    yield FeatureSpace("elements", elements, Role.ELEMENTS, Site.NONE, size_in=(Entries("elements"),))
    if len(arch.heads) > 1:
        yield FeatureSpace("heads", heads, Role.HEADS, Site.NONE, size_in=(Entries("heads"),))
    least = 1 + next(t for t, step in enumerate(arch.steps) if step.readout.kind is not ReadoutKind.NONE)
    yield FeatureSpace(
        "interactions",
        Irreps.scalars(len(arch.steps)),
        Role.INTERACTIONS,
        rules=(KeepsScalars(least), PrefixOnly()),
        size_in=(Entries("steps"),),
    )
    if arch.radial is Radial.BESSEL:  # the others are defined by their number: no subset can be expressed
        basis, number = Irreps.scalars(arch.radial_basis), (NumberOfChannels("radial_basis"),)
        yield FeatureSpace("radial_basis", basis, Role.RADIAL_BASIS, Site.EDGE, size_in=number)
    channels = (NumberOfChannels("channels"),)
    first = (CHANNELS, *_species_tie(arch, 0))
    yield FeatureSpace("node_feats.0", arch.input_irreps(0), Role.NODE_FEATS, rules=first, size_in=channels)
    for t, step in enumerate(arch.steps):
        yield from _edge_spaces(arch, t, step)
        yield from _atom_spaces(arch, t, step)


def _species_tie(arch: MaceArchitecture, t: int) -> tuple[Rule, ...]:
    """Upstream gives the species in a gated block as many channels as the features before it have scalars."""
    gated = t < len(arch.steps) and arch.steps[t].block is Block.GATED
    return (SameCounts(f"species.{t}"),) if gated else ()


def _edge_spaces(arch: MaceArchitecture, t: int, step: Interaction) -> Iterator[FeatureSpace]:
    yield FeatureSpace(
        f"edge_attrs.{t}",
        arch.edge_attrs(step.edge_lmax),
        Role.EDGE_ATTRS,
        Site.EDGE,
        rules=(PrefixOnly(),),
        size_in=(HighestL("steps", t, "edge_lmax"),),
    )
    if step.block is Block.GATED:
        scalars = Irreps.scalars(arch.input_irreps(t).mul(_SCALAR))
        for name in ("source_embedding", "target_embedding"):
            rules = (CHANNELS, *_species_tie(arch, t))
            yield FeatureSpace(f"{name}.{t}", scalars, Role.EDGE_IRREPS, rules=rules)
    for i, width in enumerate(step.radial_widths):
        whole = (NormalisedNeurons(),) if step.block is Block.GATED else ()
        yield FeatureSpace(
            f"radial.{t}.{i}",
            Irreps.scalars(width),
            Role.RADIAL_WIDTH,
            Site.EDGE,
            rules=(SameCountsUpstream(f"radial.{i}"), *whole),
            size_in=(NumberOfChannels("steps", t, "radial_widths", i),),
            normalised=bool(whole),
        )


def _atom_spaces(arch: MaceArchitecture, t: int, step: Interaction) -> Iterator[FeatureSpace]:
    def features(name: str, irreps: str, role: Role, field: str, *rules: Rule) -> FeatureSpace:
        size = (IrrepsText("steps", t, field),)
        return FeatureSpace(name, Irreps.parse(irreps), role, rules=(CHANNELS, *rules), size_in=size)

    yield features(f"edge_irreps.{t}", step.edge_irreps, Role.EDGE_IRREPS, "edge_irreps")
    if step.block.two_maps:
        yield features(f"messages.{t}", step.messages, Role.A_BASIS, "messages")
    # Upstream's product of scalars alone cannot be built.
    yield features(f"a_basis.{t}", step.a_basis, Role.A_BASIS, "a_basis", OneChannelSet(), KeepsDegrees(1))
    yield FeatureSpace(
        f"correlation.{t}",
        Irreps.scalars(step.correlation),
        Role.CORRELATION,
        rules=(PrefixOnly(),),
        size_in=(NumberOfChannels("steps", t, "correlation"),),
    )
    tie = _species_tie(arch, t + 1)
    yield features(f"node_feats.{t + 1}", step.hidden_irreps, Role.NODE_FEATS, "hidden_irreps", *tie)
    if step.readout.kind is ReadoutKind.NONLINEAR:
        yield FeatureSpace(
            f"readout.{t}",
            Irreps.scalars(step.readout.width),
            Role.READOUT,
            size_in=(NumberOfChannels("steps", t, "readout", "width"),),
            zero_preserving=arch.gate != "None",
        )


def weight_layouts(arch: MaceArchitecture) -> Mapping[str, WeightLayout]:
    """The layout of every parameter of the module that upstream builds, and of its buffers that are not derived."""
    space = {s.name: e3nn.labelled(s) for s in feature_spaces(arch)}
    layouts = e3nn.linear("node_embedding.linear", space["elements"], space["node_feats.0"])
    layouts |= joint_layouts(arch.embeddings, e3nn.axis(space["node_feats.0"]))
    if arch.embedding_readout:
        layouts |= e3nn.linear("embedding_readout.linear", space["node_feats.0"], ((_SCALAR, head_axis(arch)),))
    for t, step in enumerate(arch.steps):
        layouts |= _interaction(arch, t, step, space) | _product(arch, t, step, space)
    for number, t in enumerate(t for t, s in enumerate(arch.steps) if s.readout.kind is not ReadoutKind.NONE):
        layouts |= _readout(arch, number, t, space)
    return layouts | _constants(arch, space)


def _radial_axis(arch: MaceArchitecture, space: Mapping[str, Labelled]) -> Axis:
    return e3nn.axis(space["radial_basis"]) if "radial_basis" in space else (Segment.fixed(arch.radial_basis),)


def head_axis(arch: MaceArchitecture) -> Axis:
    """A single head is an axis of one, so that a model can lose all heads but one."""
    return (Segment("heads", _SCALAR, max(1, len(arch.heads))),)


def messages(arch: MaceArchitecture, t: int, space: Mapping[str, Labelled]) -> Labelled:
    """The sum of the messages of interaction t, after its first linear map (in gated blocks after the gate)."""
    return space[f"messages.{t}" if arch.steps[t].block.two_maps else f"a_basis.{t}"]


def message_paths(arch: MaceArchitecture, t: int, space: Mapping[str, Labelled]) -> Labelled:
    """The same before ``linear``, one entry for each path of the convolution; ``space`` has each space's irreps."""
    allowed, harmonics = {ir for ir, _ in messages(arch, t, space)}, arch.edge_attrs(arch.steps[t].edge_lmax)
    return e3nn.uvu_paths(space[f"edge_irreps.{t}"], harmonics, allowed.__contains__)


def product_channels(arch: MaceArchitecture, t: int) -> Axis:
    """The channels of the product, those of the A-basis whatever their l."""
    a_basis = Irreps.parse(arch.steps[t].a_basis)
    return (Segment(f"a_basis.{t}", _SCALAR, a_basis.mul(_SCALAR), EVERY_L),)


def _interaction(
    arch: MaceArchitecture, t: int, step: Interaction, space: Mapping[str, Labelled]
) -> dict[str, WeightLayout]:
    if step.block is Block.GATED:
        return _gated_interaction(arch, t, step, space)
    name, before, elements = f"interactions.{t}", space[f"node_feats.{t}"], e3nn.axis(space["elements"])
    target, paths = messages(arch, t, space), message_paths(arch, t, space)
    basis = _radial_axis(arch, space)
    hidden = [e3nn.axis(space[f"radial.{t}.{i}"]) for i in range(len(step.radial_widths))]
    if step.block.residual:
        skip = e3nn.fully_connected_tensor_product(f"{name}.skip_tp", before, elements, space[f"node_feats.{t + 1}"])
    else:
        skip = e3nn.fully_connected_tensor_product(f"{name}.skip_tp", target, elements, space[f"a_basis.{t}"])
    density = e3nn.fully_connected_net(f"{name}.density_fn", [basis, (Segment.fixed(1),)]) if step.block.density else {}
    return {
        **e3nn.linear(f"{name}.linear_up", before, space[f"edge_irreps.{t}"]),
        **e3nn.fully_connected_net(f"{name}.conv_tp_weights", [basis, *hidden, e3nn.axis(paths)]),
        **e3nn.linear(f"{name}.linear", e3nn.simplified(paths), target),
        **skip,
        **density,
    }


def _gated_interaction(
    arch: MaceArchitecture, t: int, step: Interaction, space: Mapping[str, Labelled]
) -> dict[str, WeightLayout]:
    """The block whose messages pass a gate (``RealAgnosticResidualNonLinearInteractionBlock``)."""
    name, before, elements = f"interactions.{t}", space[f"node_feats.{t}"], space["elements"]
    source, target = space[f"source_embedding.{t}"], space[f"target_embedding.{t}"]
    edges: Axis = (*_radial_axis(arch, space), *e3nn.axis(source), *e3nn.axis(target))
    gate, paths = gate_inputs(step, t), message_paths(arch, t, space)
    hidden = [e3nn.axis(space[f"radial.{t}.{i}"]) for i in range(len(step.radial_widths))]
    return {
        **e3nn.linear(f"{name}.source_embedding", elements, source),
        **e3nn.linear(f"{name}.target_embedding", elements, target),
        **e3nn.linear(f"{name}.linear_up", before, space[f"edge_irreps.{t}"]),
        **_radial_mlp(f"{name}.conv_tp_weights", [edges, *hidden, e3nn.axis(paths)]),
        **_radial_mlp(f"{name}.density_fn", [edges, (Segment.fixed(DENSITY_WIDTH),), (Segment.fixed(1),)]),
        **e3nn.linear(f"{name}.linear_1", e3nn.simplified(paths), gate),
        **e3nn.linear(f"{name}.linear_res", space[f"edge_irreps.{t}"], gate),
        **e3nn.linear(f"{name}.linear_2", space[f"messages.{t}"], space[f"a_basis.{t}"]),
        **e3nn.linear(f"{name}.skip_tp", before, space[f"node_feats.{t + 1}"]),
        f"{name}.alpha": WeightLayout.dense(),
        f"{name}.beta": WeightLayout.dense(),
    }


def gate_inputs(step: Interaction, t: int) -> Labelled:
    """Features that enter the gate of a gated block: scalars, a gate for every channel with l > 0, and those."""
    return e3nn.gate_inputs(f"messages.{t}", Irreps.parse(step.messages))


def _radial_mlp(prefix: str, axes: Sequence[Axis]) -> dict[str, WeightLayout]:
    """``RadialMLP`` of mace/modules/radial.py: linear maps with biases, and a layer norm after each but the last."""
    layouts: dict[str, WeightLayout] = {}
    for i, (before, after) in enumerate(pairwise(axes)):
        linear, norm = f"{prefix}.net.{3 * i}", f"{prefix}.net.{3 * i + 1}"
        layouts |= {f"{linear}.weight": WeightLayout.linear(after, before), f"{linear}.bias": WeightLayout.bias(after)}
        if i < len(axes) - 2:
            layouts |= {f"{norm}.{part}": WeightLayout.dense(after) for part in ("weight", "bias")}
    return layouts


def _product(
    arch: MaceArchitecture, t: int, step: Interaction, space: Mapping[str, Labelled]
) -> dict[str, WeightLayout]:
    """The symmetric contraction and the linear map after it; both see channels of the A-basis, whatever their l."""
    inputs, channels = [ir for _, ir in Irreps.parse(step.a_basis)], product_channels(arch, t)
    elements = (Segment.fixed(1),) if arch.agnostic_product else e3nn.axis(space["elements"])
    layouts: dict[str, WeightLayout] = {}
    for k, (ir, _) in enumerate(space[f"node_feats.{t + 1}"]):
        for nu in range(step.correlation, 0, -1):
            paths = coupling_paths(inputs, ir, nu)
            axis = tuple(Segment("", _SCALAR, 1, path) for path in paths) or (Segment.filler(),)
            # Numbered from the highest order down: the name changes when an order or an irrep before it goes.
            name = "weights_max" if nu == step.correlation else f"weights.{step.correlation - nu - 1}"
            layouts[f"products.{t}.symmetric_contractions.contractions.{k}.{name}"] = WeightLayout.dense(
                elements, axis, channels, trainable=bool(paths), identity=f"products.{t}.{ir}.order.{nu}"
            )
    products: Labelled = tuple((ir, channels) for ir, _ in space[f"node_feats.{t + 1}"])
    return layouts | e3nn.linear(f"products.{t}.linear", products, space[f"node_feats.{t + 1}"])


def _readout(arch: MaceArchitecture, number: int, t: int, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    features: Labelled = tuple(entry for entry in space[f"node_feats.{t + 1}"] if entry[0].is_scalar)
    heads, name = head_axis(arch), f"readouts.{number}"
    if arch.steps[t].readout.kind is ReadoutKind.LINEAR:
        return e3nn.linear(f"{name}.linear", features, ((_SCALAR, heads),))
    neurons = e3nn.axis(space[f"readout.{t}"])
    return {
        **e3nn.linear_to_product(f"{name}.linear_1", e3nn.axis(features), (heads, neurons)),
        **e3nn.linear_from_product(f"{name}.linear_2", (heads, neurons), heads),
    }


def _constants(arch: MaceArchitecture, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    """Floating-point buffers that upstream saves; the coupling constants U are not among them, they are derived."""
    heads, elements = head_axis(arch), e3nn.axis(space["elements"])
    per_head = {name: (heads,) if name in arch.per_head else () for name in ("atomic_energies", "scale", "shift")}
    energies = WeightLayout.constant(*per_head["atomic_energies"], elements)
    number = WeightLayout.constant()
    radii = WeightLayout.constant((Segment.fixed(_ATOMIC_NUMBERS),))
    constants = {"atomic_energies_fn.atomic_energies": energies, "r_max": number}
    if arch.scale_shift:
        constants |= {f"scale_shift.{name}": WeightLayout.constant(*per_head[name]) for name in ("scale", "shift")}
    radial = "radial_embedding"
    constants[f"{radial}.cutoff_fn.r_max"] = number
    match arch.radial:
        case Radial.BESSEL:
            constants |= {f"{radial}.bessel_fn.{name}": number for name in ("r_max", "prefactor")}
            constants[f"{radial}.bessel_fn.bessel_weights"] = WeightLayout.constant(e3nn.axis(space["radial_basis"]))
        case Radial.GAUSSIAN:
            fixed = (Segment.fixed(arch.radial_basis),)
            constants[f"{radial}.bessel_fn.gaussian_weights"] = WeightLayout.constant(fixed)
        case Radial.CHEBYSHEV:
            pass
    match arch.transform:
        case Transform.AGNESI:
            constants |= {f"{radial}.distance_transform.{name}": number for name in "qpa"}
            constants[f"{radial}.distance_transform.covalent_radii"] = radii
        case Transform.SOFT:
            constants[f"{radial}.distance_transform.alpha"] = number
            constants[f"{radial}.distance_transform.covalent_radii"] = radii
        case Transform.NONE:
            pass
    if arch.pair_repulsion:
        constants |= {f"pair_repulsion_fn.{name}": number for name in ("a_exp", "a_prefactor")}
        constants["pair_repulsion_fn.c"] = WeightLayout.constant((Segment.fixed(4),))
        constants["pair_repulsion_fn.covalent_radii"] = radii
    return constants


def shrink(arch: MaceArchitecture, plan: PruningPlan) -> MaceArchitecture:
    """The hyperparameters that a plan leaves; a single head is only a name, and a gate is one of what is left."""
    smaller: MaceArchitecture = resized(arch, feature_spaces(arch), plan)
    nonlinear = any(step.readout.kind is ReadoutKind.NONLINEAR for step in smaller.steps)
    gate = arch.gate if nonlinear else GATE_OF_LINEAR
    kept = {gate, "silu"} | ({"sigmoid"} if any(s.block is Block.GATED for s in smaller.steps) else set())
    constants = {name: constant for name, constant in arch.activation_constants.items() if name in kept}
    smaller = replace(smaller, gate=gate, activation_constants=constants)
    return smaller if len(smaller.heads) != 1 else replace(smaller, heads=(), head_name=smaller.heads[0])
