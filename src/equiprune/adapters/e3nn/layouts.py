"""Weight layouts of e3nn's building blocks, as pure data: Linear, tensor products, radial networks, gates.

Shared by every architecture built on e3nn; nothing here imports it. ``Labelled`` is an irreps with the origin of each
channel: one axis per entry, in e3nn's order. Scales are e3nn's ``path_weight`` for ``path_normalization="element"`` and
``irrep_normalization="component"`` (e3nn/o3/_linear.py, e3nn/o3/_tensor_product/_tensor_product.py, e3nn/nn/_fc.py).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import prod, sqrt

from equiprune.blocks import Axis, FeatureSpace, Irrep, Irreps, Labelled, Path, Segment, WeightLayout
from equiprune.blocks.layout import axis_size


def labelled(space: FeatureSpace) -> Labelled:
    """The irreps of a space, each entry's axis being that space's channels."""
    return labelled_irreps(space.name, space.irreps)


def labelled_irreps(space: str, irreps: Irreps) -> Labelled:
    """The same for some of the irreps of a space."""
    return tuple((ir, (Segment(space, ir, mul),)) for mul, ir in irreps)


def simplified(entries: Labelled) -> Labelled:
    """e3nn's stable ``sort()`` followed by ``simplify()``: equal irreps joined, in order of appearance."""
    kinds = sorted({ir for ir, _ in entries}, key=Irrep.sort_key)
    return tuple((kind, tuple(s for ir, axis in entries if ir == kind for s in axis)) for kind in kinds)


def axis(entries: Labelled) -> Axis:
    """All segments of labelled entries, one after another."""
    return tuple(segment for _, segments in entries for segment in segments)


def linear(
    prefix: str, inputs: Labelled, outputs: Labelled, *, biases: bool = False, apart: bool = False
) -> dict[str, WeightLayout]:
    """``o3.Linear``: one (in, out) matrix per pair of equal irreps; scale 1/sqrt(all channels into the output entry).

    Entries of one irrep are told apart by their spaces. Where upstream leaves several entries of one space beside each
    other (a tensor product that is not simplified), ``apart`` tells them apart by what they are used for as well; each
    is a single segment then.

    >>> x, y = labelled_irreps("x", Irreps.parse("4x0e+16x1o")), labelled_irreps("y", Irreps.parse("8x0e+8x1o"))
    >>> linear("lin", x, y)["lin.weight"].numel  # 4 * 8 + 16 * 8
    160
    """
    channels = {ir: sum(axis_size(axis) for other, axis in inputs if other == ir) for ir, _ in inputs}
    paths = tuple(
        Path(f"{ir}:{_entry(axis_in, apart)}->{_entry(axis_out, apart)}", (axis_in, axis_out), 1 / sqrt(channels[ir]))
        for ir, axis_in, axis_out in _pairs(inputs, outputs)
    )
    layouts = {f"{prefix}.weight": WeightLayout(paths)} if paths else {}
    scalars = [axis for ir, axis in outputs if ir.is_scalar]
    if biases and scalars:
        layouts[f"{prefix}.bias"] = WeightLayout(tuple(Path(f"bias:{_entry(a, apart)}", (a,)) for a in scalars))
    return layouts


def _pairs(inputs: Labelled, outputs: Labelled) -> Iterator[tuple[Irrep, Axis, Axis]]:
    """Pairs of an input and an output entry of equal irreps, in e3nn's order."""
    for ir, axis_in in inputs:
        for ir_out, axis_out in outputs:
            if ir == ir_out:
                yield ir, axis_in, axis_out


def _entry(axis: Axis, apart: bool = False) -> str:
    """Identity of an entry among those of the same irrep: the spaces it is made of, and if wanted their use.

    A plan may leave some of the uses of a space only, so that a use is no part of the identity of a joined entry.
    """
    return "|".join(dict.fromkeys(f"{s.space}*{s.irrep}*{s.use}" if apart else s.space for s in axis))


def linear_to_product(prefix: str, inputs: Axis, outputs: Sequence[Axis]) -> dict[str, WeightLayout]:
    """``o3.Linear`` from scalars to scalars whose channels are pairs (head, neuron), the last axis running fastest."""
    path = Path("0e:product", (inputs, *outputs), 1 / sqrt(axis_size(inputs)))
    return {f"{prefix}.weight": WeightLayout((path,))}


def linear_from_product(prefix: str, inputs: Sequence[Axis], outputs: Axis) -> dict[str, WeightLayout]:
    """``o3.Linear`` from scalars whose channels are pairs (head, neuron) to scalars."""
    path = Path("0e:product", (*inputs, outputs), 1 / sqrt(prod(map(axis_size, inputs))))
    return {f"{prefix}.weight": WeightLayout((path,))}


def fully_connected_tensor_product(
    prefix: str, inputs: Labelled, scalars: Axis, outputs: Labelled
) -> dict[str, WeightLayout]:
    """``o3.FullyConnectedTensorProduct`` with a second operand of 0e scalars: (in, scalar, out) per irrep."""
    n = axis_size(scalars)
    paths = tuple(
        Path(
            f"{ir}:{_entry(axis_in)}->{_entry(axis_out)}",
            (axis_in, scalars, axis_out),
            sqrt(ir.dim / (axis_size(axis_in) * n)),
        )
        for ir, axis_in, axis_out in _pairs(inputs, outputs)
    )
    return {f"{prefix}.weight": WeightLayout(paths)} if paths else {}


def uvu_paths(inputs: Labelled, edge_attrs: Irreps, allowed: Callable[[Irrep], bool]) -> Labelled:
    """Outputs of a channel-wise (``uvu``) tensor product, one labelled entry per path, in e3nn's sorted order.

    The channels of a path are those of its input; its ``use`` names the path. The concatenation of all entries is also
    the column order of the network that makes the path weights, where upstream sorts paths before it numbers them.
    """
    return tuple(sorted(uvu_weights(inputs, edge_attrs, allowed), key=lambda entry: entry[0].sort_key()))


def uvu_weights(inputs: Labelled, edge_attrs: Irreps, allowed: Callable[[Irrep], bool]) -> Labelled:
    """The same as paths are enumerated: the order of their weights where upstream sorts outputs alone."""
    return tuple(
        (ir_out, tuple(Segment(s.space, s.irrep, s.mul, f"{ir_in}*{ir_edge}->{ir_out}") for s in axis))
        for ir_in, axis in inputs
        for _, ir_edge in edge_attrs
        for ir_out in ir_in * ir_edge
        if allowed(ir_out)
    )


def fully_connected_net(prefix: str, axes: Sequence[Axis]) -> dict[str, WeightLayout]:
    """``nn.FullyConnectedNet``: dense (in, out) matrices, scale 1/sqrt(in)."""
    return {
        f"{prefix}.layer{i}.weight": WeightLayout.dense(a, b, scale=1 / sqrt(axis_size(a)))
        for i, (a, b) in enumerate(pairwise(axes))
    }


def gate_inputs(space: str, irreps: Irreps) -> Labelled:
    """Input of ``nn.Gate`` for a gated space: scalars, one gate scalar per l > 0 channel, and the gated irreps.

    A gate scalar repeats the channel it gates, so no plan can keep one without the other.

    >>> [(str(ir), axis_size(axis)) for ir, axis in gate_inputs("x", Irreps.parse("8x0e+4x1o"))]
    [('0e', 12), ('1o', 4)]
    """
    scalars = labelled_irreps(space, Irreps(tuple(e for e in irreps if e[1].l == 0)))
    gated = labelled_irreps(space, Irreps(tuple(e for e in irreps if e[1].l > 0)))
    gate = Irrep(0, 1 if any(ir.is_scalar for ir, _ in scalars) else -1)
    gates = tuple((gate, tuple(Segment(s.space, s.irrep, s.mul, "gate") for s in axis)) for _, axis in gated)
    return simplified(scalars + gates + gated)
