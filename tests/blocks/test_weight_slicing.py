"""Slicing a weight against slow layers whose normalisation is counted by hand."""

from math import sqrt

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.random import default_rng
from torch import Tensor

from equiprune import BlockMask, FeatureSpace, Irrep, Irreps, PruningPlan, WeightLayout
from equiprune.adapters.e3nn import layouts as e3nn_layouts
from equiprune.adapters.e3nn.layouts import Labelled, labelled, simplified
from equiprune.blocks import Path, Role, Segment, kept_positions, slice_weight
from equiprune.errors import PlanError
from equiprune.testing import random_plan

KINDS = [Irrep(0, 1), Irrep(1, -1), Irrep(2, 1)]
MULS = st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 3))
IRREPS = MULS.map(lambda muls: Irreps(tuple((mul, ir) for mul, ir in zip(muls, KINDS, strict=True) if mul)))
SEED = st.integers(0, 2**32 - 1)


def space(name: str, irreps: Irreps) -> FeatureSpace:
    return FeatureSpace(name, irreps, Role.NODE_FEATS)


def small(labels: Labelled, plan: PruningPlan) -> Labelled:
    """The same entries with the channels that a plan leaves."""
    entries = []
    for ir, axis in labels:
        left = tuple(Segment(s.space, s.irrep, len(plan.kept(s.space, s.irrep, s.mul)), s.use) for s in axis)
        if any(s.mul for s in left):
            entries.append((ir, tuple(s for s in left if s.mul)))
    return tuple(entries)


def slow_linear(weight: Tensor, x: Tensor, inputs: Irreps, outputs: Irreps) -> Tensor:
    """``o3.Linear``, one multiplication at a time, divided by the square root of the inputs it counted."""
    y = torch.zeros(outputs.dim, dtype=x.dtype)
    position = 0
    for mul_in, ir, here in inputs.slices():
        for mul_out, ir_out, there in outputs.slices():
            for i in range(mul_in if ir == ir_out else 0):
                for o in range(mul_out):
                    for m in range(ir.dim):
                        term = weight[position] * x[here.start + i * ir.dim + m] / sqrt(mul_in)
                        y[there.start + o * ir.dim + m] += term
                    position += 1
    assert position == len(weight)
    return y


@given(IRREPS, IRREPS, SEED)
def test_a_sliced_linear_map_is_the_masked_one(inputs: Irreps, outputs: Irreps, seed: int) -> None:
    x, y = space("x", inputs), space("y", outputs)
    plan = random_plan([x, y], default_rng(seed))
    parent = e3nn_layouts.linear("f", labelled(x), labelled(y))["f.weight"]
    child = e3nn_layouts.linear("f", small(labelled(x), plan), small(labelled(y), plan))["f.weight"]
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(parent.numel, generator=generator, dtype=torch.float64)
    sliced = slice_weight(weight, parent, child, plan)
    assert sliced.shape == child.shape
    feature = torch.randn(plan.mask(x).kept_irreps.dim, generator=generator, dtype=torch.float64)
    masked = slow_linear(weight, plan.mask(x).insert_zeros(feature), inputs, outputs)
    direct = slow_linear(sliced, feature, plan.mask(x).kept_irreps, plan.mask(y).kept_irreps)
    torch.testing.assert_close(direct, plan.mask(y).select(masked), rtol=1e-12, atol=1e-13)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), SEED)
def test_a_sliced_tensor_product_with_scalars_is_the_masked_one(n: int, k: int, m: int, seed: int) -> None:
    spaces = [space(name, Irreps(((mul, KINDS[1]),))) for name, mul in (("x", n), ("y", m))]
    x, y, species = *spaces, space("s", Irreps.scalars(k))
    plan = random_plan([x, y, species], default_rng(seed))

    def layout(a: Labelled, s: Labelled, b: Labelled) -> WeightLayout:
        return e3nn_layouts.fully_connected_tensor_product("f", a, s[0][1], b)["f.weight"]

    def slow(weight: Tensor, shape: tuple[int, ...], a: Tensor, s: Tensor) -> Tensor:
        return torch.einsum("iso,im,s->om", weight.reshape(shape), a, s) / sqrt(shape[0] * shape[1])

    labels = [labelled(part) for part in (x, species, y)]
    parent, child = layout(*labels), layout(*(small(label, plan) for label in labels))
    generator = torch.Generator().manual_seed(seed)
    weight, a, s = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (parent.shape, (n, 3), (k,))
    )
    keep = {part.name: list(plan.mask(part).kept[0]) for part in (x, y, species)}
    ones = {
        name: torch.zeros(mul).double().index_fill(0, torch.tensor(keep[name]), 1) for name, mul in (("x", n), ("s", k))
    }
    masked = slow(weight, (n, k, m), a * ones["x"][:, None], s * ones["s"])
    direct = slow(slice_weight(weight, parent, child, plan), child.paths[0].shape, a[keep["x"]], s[keep["s"]])
    torch.testing.assert_close(direct, masked[keep["y"]], rtol=1e-12, atol=1e-13)


def test_entries_of_one_irrep_are_told_apart() -> None:
    """Two inputs and two outputs of one irrep, as upstream's own ``o3.Linear`` has them, each pruned its own way."""
    plan = PruningPlan(
        {
            "a": BlockMask(Irreps.scalars(3), ((2, 0),)),
            "b": BlockMask(Irreps.scalars(2), ((1,),)),
            "p": BlockMask(Irreps.scalars(2), ((0,),)),
            "q": BlockMask(Irreps.scalars(3), ((0, 2),)),
        }
    )
    inputs, outputs = (
        labelled(space(a, Irreps.scalars(m))) + labelled(space(b, Irreps.scalars(n)))
        for a, m, b, n in (("a", 3, "b", 2), ("p", 2, "q", 3))
    )
    parent = e3nn_layouts.linear("f", inputs, outputs, biases=True)
    child = e3nn_layouts.linear("f", small(inputs, plan), small(outputs, plan), biases=True)
    weight, bias = torch.arange(25.0), torch.arange(5.0)
    blocks = dict(zip(("ap", "aq", "bp", "bq"), weight.split([6, 9, 4, 6]), strict=True))
    ap, aq, bp, bq = (blocks[pair].reshape(len("abc" if pair[0] == "a" else "ab"), -1) for pair in blocks)
    kept = [ap[[2, 0]][:, [0]], aq[[2, 0]][:, [0, 2]], bp[[1]][:, [0]], bq[[1]][:, [0, 2]]]
    expected = torch.cat([part.reshape(-1) for part in kept]) / sqrt(5) * sqrt(3)
    torch.testing.assert_close(slice_weight(weight, parent["f.weight"], child["f.weight"], plan), expected)
    assert slice_weight(bias, parent["f.bias"], child["f.bias"], plan).tolist() == [0.0, 2.0, 4.0]


def test_paths_of_a_product_that_is_not_simplified_are_told_apart() -> None:
    """One space reaches scalars by two paths; where the vectors go, the second path goes with them."""
    x, y = space("x", Irreps(((3, KINDS[0]), (2, KINDS[1])))), space("y", Irreps.scalars(1))
    plan = PruningPlan({"x": BlockMask(x.irreps, ((1,), ()))})
    edges = Irreps.spherical_harmonics(1, -1)
    allowed = {KINDS[0]}.__contains__
    parent, child = (
        e3nn_layouts.linear("f", e3nn_layouts.uvu_paths(labels, edges, allowed), labelled(y), apart=True)["f.weight"]
        for labels in (labelled(x), small(labelled(x), plan))
    )
    sliced = slice_weight(torch.arange(5.0), parent, child, plan)
    torch.testing.assert_close(sliced, torch.tensor([1.0]) / sqrt(5))
    with pytest.raises(ValueError, match="Two paths have the key"):
        e3nn_layouts.linear("f", e3nn_layouts.uvu_paths(labelled(x), edges, allowed), labelled(y))


@given(st.integers(1, 5), st.integers(1, 5), SEED)
def test_spaces_that_share_an_axis_share_its_fan_in(n: int, k: int, seed: int) -> None:
    x, head = space("x", Irreps.scalars(n)), space("head", Irreps.scalars(k))
    plan = random_plan([x, head], default_rng(seed))
    out: Labelled = ((KINDS[0], (Segment.fixed(1),)),)
    labels = simplified(labelled(x) + labelled(head))
    parent = e3nn_layouts.linear("f", labels, out)["f.weight"]
    child = e3nn_layouts.linear("f", small(labels, plan), out)["f.weight"]
    weight = torch.arange(1.0, n + k + 1, dtype=torch.float64)
    kept = [*plan.mask(x).kept[0], *(n + c for c in plan.mask(head).kept[0])]
    expected = weight[kept] / sqrt(n + k) * sqrt(len(kept))
    torch.testing.assert_close(slice_weight(weight, parent, child, plan), expected, rtol=1e-12, atol=0)


@given(IRREPS, SEED)
def test_repeated_channels_move_together(irreps: Irreps, seed: int) -> None:
    assume(len(irreps) > 1)
    x = space("x", irreps)
    plan = random_plan([x], default_rng(seed))
    axis = tuple(s for _, entries in e3nn_layouts.gate_inputs("x", irreps) for s in entries)
    kept = kept_positions(axis, tuple(s for _, e in small(((KINDS[0], axis),), plan) for s in e), plan)
    names = [(s.irrep, c) for s in axis for c in range(s.mul)]
    gated = [names[i] for i in kept if names[i][0].l > 0]
    assert sorted(gated, key=str) == sorted(
        2 * [(ir, c) for _, ir in irreps for c in plan.mask(x).of(ir) if ir.l], key=str
    )


def test_a_weight_that_keeps_everything_is_bitwise_the_same() -> None:
    layout = WeightLayout.dense((Segment("x", KINDS[0], 3),), (Segment("y", KINDS[0], 7),), scale=3**-0.5)
    weight = torch.linspace(-1, 1, 21).reshape(3, 7)
    assert torch.equal(slice_weight(weight, layout, layout, PruningPlan.nothing()), weight)


def test_the_order_of_a_mask_is_the_order_of_the_slice() -> None:
    def layout(n: int) -> WeightLayout:
        return WeightLayout.dense((Segment("x", KINDS[0], n),))

    plan = PruningPlan({"x": BlockMask(Irreps.scalars(4), ((3, 0, 2),))})
    assert slice_weight(torch.arange(4.0), layout(4), layout(3), plan).tolist() == [3.0, 0.0, 2.0]


def test_paths_whose_irreps_are_gone_disappear() -> None:
    a, b = (Segment("x", ir, 2) for ir in KINDS[:2])
    parent = WeightLayout((Path("0e", ((a,),)), Path("1o", ((b,),))))
    plan = PruningPlan({"x": BlockMask.keep(Irreps(((2, KINDS[0]), (2, KINDS[1]))), {KINDS[1]: [0, 1]})})
    child = WeightLayout((Path("1o", ((b,),)),))
    assert slice_weight(torch.arange(4.0), parent, child, plan).tolist() == [2.0, 3.0]


def test_an_adapter_that_miscounts_is_found_out() -> None:
    plan = PruningPlan({"x": BlockMask(Irreps.scalars(4), ((0, 1),))})
    with pytest.raises(PlanError, match="defect of the adapter"):
        kept_positions((Segment("x", KINDS[0], 4),), (Segment("x", KINDS[0], 3),), plan)
