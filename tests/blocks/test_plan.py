"""Masks and plans: select and its inverse, composition, and JSON."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equiprune import BlockMask, FeatureSpace, Irrep, Irreps, PruningPlan, WeightLayout
from equiprune.blocks import KeepsScalars, OneChannelSet, Role, Rule, SameCounts, Segment, slice_weight
from equiprune.errors import PlanError

IRREP = st.builds(Irrep, st.integers(0, 3), st.sampled_from([1, -1]))
ENTRIES = st.lists(st.tuples(st.integers(1, 5), IRREP), min_size=1, max_size=4, unique_by=lambda entry: entry[1])
IRREPS = ENTRIES.map(lambda entries: Irreps(tuple(entries)))


def masks_of(irreps: Irreps) -> st.SearchStrategy[BlockMask]:
    """Any subset of each irrep's channels, in any order."""
    orders = [st.permutations(range(mul)) for mul, _ in irreps]
    sizes = [st.integers(0, mul) for mul, _ in irreps]
    return st.tuples(st.tuples(*orders), st.tuples(*sizes)).map(
        lambda drawn: BlockMask(irreps, tuple(tuple(order[:n]) for order, n in zip(*drawn, strict=True)))
    )


MASK = IRREPS.flatmap(masks_of)
TWO_MASKS = IRREPS.flatmap(lambda irreps: st.tuples(masks_of(irreps), masks_of(irreps)))
NESTED_MASKS = MASK.flatmap(lambda outer: st.tuples(st.just(outer), masks_of(outer.kept_irreps)))


def features(irreps: Irreps) -> torch.Tensor:
    return torch.arange(1.0, 3 * irreps.dim + 1).reshape(3, irreps.dim)


@given(MASK)
def test_inserting_zeros_after_selecting_is_masking(mask: BlockMask) -> None:
    x = features(mask.irreps)
    assert torch.equal(mask.insert_zeros(mask.select(x)), x * mask.as_tensor(x))


@given(MASK)
def test_selecting_after_inserting_zeros_is_nothing(mask: BlockMask) -> None:
    y = features(mask.kept_irreps)
    assert torch.equal(mask.select(mask.insert_zeros(y)), y)


@given(MASK)
def test_selection_keeps_whole_blocks_in_the_order_of_the_mask(mask: BlockMask) -> None:
    x = features(mask.irreps)
    blocks = {ir: x[:, span].reshape(3, mul, ir.dim) for mul, ir, span in mask.irreps.slices()}
    expected = [blocks[ir][:, channel] for _, ir in mask.irreps for channel in mask.of(ir)]
    assert torch.equal(mask.select(x), torch.cat([x[:, :0], *expected], dim=1))


def test_a_mask_and_a_slice_are_where_their_tensor_is() -> None:
    like = torch.empty(2, 1, dtype=torch.float64, device="meta")  # no device, so that one forgotten shows everywhere
    mask = BlockMask(Irreps.scalars(2), ((1,),))
    ones = mask.as_tensor(like)
    assert (ones.device, ones.dtype) == (like.device, like.dtype)
    before, after = (WeightLayout.dense((Segment("x", Irrep(0, 1), n),), (Segment.fixed(1),)) for n in (2, 1))
    assert slice_weight(like.flatten(), before, after, PruningPlan({"x": mask})).device == like.device


@given(NESTED_MASKS)
def test_then_is_selecting_twice(nested: tuple[BlockMask, BlockMask]) -> None:
    outer, inner = nested
    x = features(outer.irreps)
    assert torch.equal(outer.then(inner).select(x), inner.select(outer.select(x)))


@given(TWO_MASKS)
def test_and_keeps_what_both_keep(masks: tuple[BlockMask, BlockMask]) -> None:
    a, b = masks
    x = features(a.irreps)
    assert torch.equal((a & b).as_tensor(x), a.as_tensor(x) * b.as_tensor(x))
    assert a & a == a


@given(TWO_MASKS)
def test_then_within_is_and(masks: tuple[BlockMask, BlockMask]) -> None:
    a, b = masks
    assert a.then(b.within(a)) == a & b


@given(MASK)
def test_a_mask_that_keeps_all_is_neutral(mask: BlockMask) -> None:
    everything = BlockMask.all(mask.irreps)
    assert everything.keeps_all
    assert everything.then(mask.within(everything)) == everything & mask
    assert mask.then(BlockMask.all(mask.kept_irreps)) == mask


@given(TWO_MASKS)
def test_plans_survive_json(masks: tuple[BlockMask, BlockMask]) -> None:
    plan = PruningPlan({"a": masks[0], "b": masks[1]})
    assert PruningPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@given(NESTED_MASKS, MASK)
def test_plans_combine_space_by_space(nested: tuple[BlockMask, BlockMask], other: BlockMask) -> None:
    outer, inner = nested
    a, b = PruningPlan({"x": outer, "y": other}), PruningPlan({"x": inner})
    assert a.then(b) == PruningPlan({"x": outer.then(inner), "y": other})
    whole = a.then(b)
    assert a.then(whole.within(a)) == a & whole


def test_masks_that_keep_all_are_not_part_of_a_plan() -> None:
    plan = PruningPlan({"x": BlockMask.all(Irreps.parse("3x0e"))})
    assert plan.keeps_all
    assert plan == PruningPlan.nothing()
    assert plan.kept("x", Irrep(0, 1), 3) == (0, 1, 2)


@pytest.mark.parametrize("kept", [[0, 0], [3], [-1]])
def test_channels_are_distinct_and_exist(kept: list[int]) -> None:
    with pytest.raises(PlanError, match="from 0 to 2"):
        BlockMask.keep(Irreps.parse("3x0e"), {Irrep(0, 1): kept})


def test_masks_of_different_spaces_do_not_combine() -> None:
    a, b = BlockMask.all(Irreps.parse("3x0e")), BlockMask.all(Irreps.parse("2x0e"))
    with pytest.raises(PlanError, match="different spaces"):
        a & b
    with pytest.raises(PlanError, match="cannot follow"):
        a.then(b)


BAD_PLANS = [
    3,
    [],
    {"x": []},
    {"x": {"irreps": "2x0e"}},
    {"x": {"irreps": "two", "kept": {}}},
    {"x": {"irreps": "2x0e", "kept": {"0e": "all"}}},
    {"x": {"irreps": "2x0e", "kept": {"0e": [0.5]}}},
    {"x": {"irreps": "2x0e", "kept": {"0e": [7]}}},
    {"x": {"irreps": "2x0e", "kept": {"1o": [0]}}},
    {"x": {"irreps": "2x0e", "kept": {"scalars": [0]}}},
]


@pytest.mark.parametrize("value", BAD_PLANS, ids=str)
def test_what_is_no_plan_is_refused(value: Any) -> None:
    with pytest.raises(PlanError):
        PruningPlan.from_json(value)


def space(name: str, *rules: Rule) -> FeatureSpace:
    return FeatureSpace(name, Irreps.parse("4x0e+4x1o"), Role.NODE_FEATS, rules=rules)


def plan_of(**kept: tuple[list[int], list[int]]) -> PruningPlan:
    irreps = Irreps.parse("4x0e+4x1o")
    return PruningPlan({name: BlockMask(irreps, tuple(map(tuple, channels))) for name, channels in kept.items()})


@pytest.mark.parametrize(
    ("plan", "spaces", "message"),
    [
        (plan_of(z=([0], [])), [space("x")], "no space"),
        (PruningPlan({"x": BlockMask.keep(Irreps.parse("2x0e"), {})}), [space("x")], "is for '2x0e'"),
        (plan_of(x=([0], [0])), [space("x", KeepsScalars(2))], "at least 2"),
        (plan_of(x=([0, 1], [0, 2])), [space("x", OneChannelSet())], "one channel set for all l"),
        (plan_of(x=([0, 1], [0])), [space("x", SameCounts("g")), space("y", SameCounts("g"))], "equally many"),
    ],
)
def test_a_plan_that_breaks_a_rule_of_its_spaces_is_refused(
    plan: PruningPlan, spaces: list[FeatureSpace], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        plan.check(spaces)


def test_a_plan_within_the_rules_is_accepted() -> None:
    plan_of(x=([0, 1], [])).check([space("x", OneChannelSet(), KeepsScalars(2))])
    plan_of(x=([0, 1], [0]), y=([2, 3], [3])).check([space("x", SameCounts("g")), space("y", SameCounts("g"))])
