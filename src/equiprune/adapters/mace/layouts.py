"""MACE's feature spaces and the layout of each of its parameters.

Interaction t reads ``node_feats.t``; ``linear_up`` makes ``edge_irreps.t``, the convolution mixes them with the edges,
``linear`` makes the A-basis ``a_basis.t`` (in blocks that are not residual it makes ``messages.t``, and ``skip_tp`` the
A-basis), products of up to ``correlation.t`` of them are mixed into ``node_feats.{t+1}``, from which a readout takes
the energy (mace/modules/blocks.py, mace/modules/models.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from equiprune.adapters.e3nn import layouts as e3nn
from equiprune.adapters.e3nn.layouts import Labelled
from equiprune.adapters.mace.architecture import (
    GATE_OF_LINEAR,
    Interaction,
    MaceArchitecture,
    Radial,
    Readout,
    ReadoutKind,
    Transform,
)
from equiprune.adapters.mace.symmetric_contraction import coupling_paths
from equiprune.blocks import (
    Axis,
    ChannelTying,
    FeatureSpace,
    Irrep,
    Irreps,
    PruningPlan,
    Role,
    Segment,
    Site,
    WeightLayout,
)
from equiprune.blocks.layout import EVERY_L

_SCALAR = Irrep(0, 1)
_ATOMIC_NUMBERS = 119
"""Length of upstream's tables of covalent radii, atomic numbers 0 to 118."""

CHANNELS = "channels"
"""The stock group of everything that upstream gives one number of channels."""


def feature_spaces(arch: MaceArchitecture) -> tuple[FeatureSpace, ...]:
    """Every space a plan may prune, inputs first."""
    return tuple(_spaces(arch))


def _spaces(arch: MaceArchitecture) -> Iterator[FeatureSpace]:
    yield FeatureSpace("elements", Irreps.scalars(len(arch.elements)), Role.ELEMENTS, Site.NONE)
    if len(arch.heads) > 1:
        yield FeatureSpace("heads", Irreps.scalars(len(arch.heads)), Role.HEADS, Site.NONE)
    least = 1 + next(t for t, step in enumerate(arch.steps) if step.readout.kind is not ReadoutKind.NONE)
    yield FeatureSpace("interactions", Irreps.scalars(len(arch.steps)), Role.INTERACTIONS, minimum=least, ordered=True)
    if arch.radial is Radial.BESSEL:  # the others are defined by their number: no subset can be expressed
        yield FeatureSpace("radial_basis", Irreps.scalars(arch.radial_basis), Role.RADIAL_BASIS, Site.EDGE)
    yield FeatureSpace("node_feats.0", arch.input_irreps(0), Role.NODE_FEATS, stock_group=CHANNELS)
    for t, step in enumerate(arch.steps):
        yield from _interaction_spaces(arch, t, step)


def _interaction_spaces(arch: MaceArchitecture, t: int, step: Interaction) -> Iterator[FeatureSpace]:
    yield FeatureSpace(f"edge_attrs.{t}", arch.edge_attrs(step.edge_lmax), Role.EDGE_ATTRS, Site.EDGE, ordered=True)
    for i, width in enumerate(step.radial_widths):
        yield FeatureSpace(
            f"radial.{t}.{i}", Irreps.scalars(width), Role.RADIAL_WIDTH, Site.EDGE, stock_group=f"radial.{i}"
        )
    yield FeatureSpace(f"edge_irreps.{t}", Irreps.parse(step.edge_irreps), Role.EDGE_IRREPS, stock_group=CHANNELS)
    if not step.block.residual:
        messages = Irreps.parse(step.messages)
        yield FeatureSpace(f"messages.{t}", messages, Role.A_BASIS, stock_group=CHANNELS)
    yield FeatureSpace(
        f"a_basis.{t}",
        Irreps.parse(step.a_basis),
        Role.A_BASIS,
        tying=ChannelTying.ACROSS_L,
        stock_group=CHANNELS,
        least_lmax=1,  # upstream's product of scalars alone cannot be built
    )
    yield FeatureSpace(f"correlation.{t}", Irreps.scalars(step.correlation), Role.CORRELATION, ordered=True)
    hidden = Irreps.parse(step.hidden_irreps)
    yield FeatureSpace(f"node_feats.{t + 1}", hidden, Role.NODE_FEATS, stock_group=CHANNELS)
    if step.readout.kind is ReadoutKind.NONLINEAR:
        yield FeatureSpace(
            f"readout.{t}", Irreps.scalars(step.readout.width), Role.READOUT, zero_preserving=arch.gate != "None"
        )


def weight_layouts(arch: MaceArchitecture) -> Mapping[str, WeightLayout]:
    """The layout of every parameter of the module that upstream builds, and of its buffers that are not derived."""
    space = {s.name: e3nn.labelled(s) for s in feature_spaces(arch)}
    layouts = e3nn.linear("node_embedding.linear", space["elements"], space["node_feats.0"])
    for t, step in enumerate(arch.steps):
        layouts |= _interaction(arch, t, step, space) | _product(arch, t, step, space)
    for number, t in enumerate(t for t, s in enumerate(arch.steps) if s.readout.kind is not ReadoutKind.NONE):
        layouts |= _readout(arch, number, t, space)
    return layouts | _constants(arch, space)


def _axis(entries: Labelled) -> Axis:
    return tuple(segment for _, axis in entries for segment in axis)


def _radial_axis(arch: MaceArchitecture, space: Mapping[str, Labelled]) -> Axis:
    return _axis(space["radial_basis"]) if "radial_basis" in space else (Segment.fixed(arch.radial_basis),)


def _heads(arch: MaceArchitecture) -> Axis:
    """A single head is an axis of one, so that a model can lose all heads but one."""
    return (Segment("heads", _SCALAR, max(1, len(arch.heads))),)


def _interaction(
    arch: MaceArchitecture, t: int, step: Interaction, space: Mapping[str, Labelled]
) -> dict[str, WeightLayout]:
    name, before, elements = f"interactions.{t}", space[f"node_feats.{t}"], _axis(space["elements"])
    target = space[f"a_basis.{t}" if step.block.residual else f"messages.{t}"]
    allowed = {ir for ir, _ in target}
    paths = e3nn.uvu_paths(space[f"edge_irreps.{t}"], arch.edge_attrs(step.edge_lmax), allowed.__contains__)
    basis = _radial_axis(arch, space)
    hidden = [_axis(space[f"radial.{t}.{i}"]) for i in range(len(step.radial_widths))]
    if step.block.residual:
        skip = e3nn.fully_connected_tensor_product(f"{name}.skip_tp", before, elements, space[f"node_feats.{t + 1}"])
    else:
        skip = e3nn.fully_connected_tensor_product(f"{name}.skip_tp", target, elements, space[f"a_basis.{t}"])
    density = e3nn.fully_connected_net(f"{name}.density_fn", [basis, (Segment.fixed(1),)]) if step.block.density else {}
    return {
        **e3nn.linear(f"{name}.linear_up", before, space[f"edge_irreps.{t}"]),
        **e3nn.fully_connected_net(f"{name}.conv_tp_weights", [basis, *hidden, _axis(paths)]),
        **e3nn.linear(f"{name}.linear", e3nn.simplified(paths), target),
        **skip,
        **density,
    }


def _product(
    arch: MaceArchitecture, t: int, step: Interaction, space: Mapping[str, Labelled]
) -> dict[str, WeightLayout]:
    """The symmetric contraction and the linear map after it; both see channels of the A-basis, whatever their l."""
    a_basis = Irreps.parse(step.a_basis)
    inputs = [ir for _, ir in a_basis]
    channels = (Segment(f"a_basis.{t}", _SCALAR, a_basis.mul(_SCALAR), EVERY_L),)
    elements = (Segment.fixed(1),) if arch.agnostic_product else _axis(space["elements"])
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
    heads, name = _heads(arch), f"readouts.{number}"
    if arch.steps[t].readout.kind is ReadoutKind.LINEAR:
        return e3nn.linear(f"{name}.linear", features, ((_SCALAR, heads),))
    neurons = _axis(space[f"readout.{t}"])
    return {
        **e3nn.linear_to_product(f"{name}.linear_1", _axis(features), (heads, neurons)),
        **e3nn.linear_from_product(f"{name}.linear_2", (heads, neurons), heads),
    }


def _constants(arch: MaceArchitecture, space: Mapping[str, Labelled]) -> dict[str, WeightLayout]:
    """Floating-point buffers that upstream saves; the coupling constants U are not among them, they are derived."""
    heads, elements = _heads(arch), _axis(space["elements"])
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
            constants[f"{radial}.bessel_fn.bessel_weights"] = WeightLayout.constant(_axis(space["radial_basis"]))
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
    """The hyperparameters that a plan leaves."""
    kept = {space.name: plan.mask(space).kept_irreps for space in feature_spaces(arch)}
    elements = plan.kept("elements", _SCALAR, len(arch.elements))
    heads = [arch.heads[i] for i in plan.kept("heads", _SCALAR, len(arch.heads))]
    steps = tuple(_step(step, t, kept) for t, step in enumerate(arch.steps[: kept["interactions"].channels]))
    gate = arch.gate if any(step.readout.kind is ReadoutKind.NONLINEAR for step in steps) else GATE_OF_LINEAR
    constants = {name: constant for name, constant in arch.activation_constants.items() if name in (gate, "silu")}
    return replace(
        arch,
        elements=tuple(arch.elements[i] for i in elements),
        heads=tuple(heads) if len(heads) > 1 else (),
        head_name=heads[0] if len(heads) == 1 else arch.head_name,
        channels=kept["node_feats.0"].channels,
        radial_basis=kept["radial_basis"].channels if "radial_basis" in kept else arch.radial_basis,
        steps=steps,
        gate=gate,
        activation_constants=constants,
    )


def _step(step: Interaction, t: int, kept: dict[str, Irreps]) -> Interaction:
    widths = range(len(step.radial_widths))
    nonlinear = step.readout.kind is ReadoutKind.NONLINEAR
    return replace(
        step,
        edge_irreps=str(kept[f"edge_irreps.{t}"]),
        edge_lmax=kept[f"edge_attrs.{t}"].lmax,
        messages=str(kept.get(f"messages.{t}", "")),
        a_basis=str(kept[f"a_basis.{t}"]),
        hidden_irreps=str(kept[f"node_feats.{t + 1}"]),
        correlation=kept[f"correlation.{t}"].channels,
        radial_widths=tuple(kept[f"radial.{t}.{i}"].channels for i in widths),
        readout=Readout(step.readout.kind, kept[f"readout.{t}"].channels) if nonlinear else step.readout,
    )
