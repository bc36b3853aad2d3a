"""From targets to plans: rules are never broken, budgets are met, impossible targets say what is possible."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import equiprune as ep
from equiprune.blocks import Role
from equiprune.errors import PlanError, TargetError
from equiprune.pruning.counts import group_of
from equiprune.pruning.targets import Target
from equiprune.testing import random_plan

SCALAR, VECTOR = ep.Irrep(0, 1), ep.Irrep(1, -1)
HIDDEN = (Role.NODE_FEATS, Role.EDGE_IRREPS)

HIDDEN_IRREPS = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 4), st.integers(1, 5)).map(
    lambda n: ep.HiddenIrreps.parse(f"{n[0]}x0e,{n[1]}x0e+{n[2]}x1o,{n[3]}x0e")
)
TARGETS = st.lists(
    st.one_of(
        HIDDEN_IRREPS,
        st.builds(ep.Channels, st.integers(1, 6)),
        st.builds(ep.Lmax, st.integers(0, 1)),
        st.builds(ep.EdgeLmax, st.integers(0, 1)),
        st.builds(ep.RadialWidth, st.tuples(st.integers(1, 8))),
        st.builds(ep.RadialBasis, st.integers(1, 4)),
        st.permutations([1, 6, 8, 14]).map(lambda order: ep.Elements(tuple(order[:2]))),
        st.just(ep.Lossless()),
    ),
    max_size=4,
    unique_by=type,
)


@pytest.fixture(scope="module")
def scores(toy: ep.Potential) -> ep.ImportanceScores:
    return ep.calibrate(toy, [], ep.Random(1))


def kept(potential: ep.Potential, plan: ep.PruningPlan) -> dict[str, str]:
    return {space.name: str(plan.mask(space).kept_irreps) for space in potential.spaces}


def trainable(potential: ep.Potential) -> int:
    return sum(p.numel() for p in potential.module.parameters() if p.requires_grad)


@given(TARGETS, st.integers(0, 100))
def test_a_plan_obeys_the_rules_of_the_spaces(toy: ep.Potential, targets: list[Target], seed: int) -> None:
    plan = ep.allocate(toy, targets, ep.calibrate(toy, [], ep.Random(seed)))
    plan.check(toy.spaces)
    counts: dict[str, set[str]] = {}
    for space in toy.spaces:
        mask = plan.mask(space)
        counts.setdefault(group_of(space), set()).add(str(mask.kept_irreps))
        assert len(mask.of(SCALAR)) >= len(space.smallest().of(SCALAR))
    assert all(len(found) == 1 for found in counts.values())


@pytest.mark.slow
@given(TARGETS)
def test_targets_only_remove_and_their_order_means_nothing(toy: ep.Potential, targets: list[Target]) -> None:
    scores = ep.calibrate(toy, [], ep.Random(1))
    plan = ep.allocate(toy, targets, scores)
    assert ep.allocate(toy, targets[::-1], scores) == plan
    for target in targets:
        alone = ep.allocate(toy, [target], scores)
        for space in toy.spaces:
            assert all(len(plan.mask(space).of(ir)) <= len(alone.mask(space).of(ir)) for _, ir in space.irreps)


@pytest.mark.slow
@given(st.floats(0.35, 1), TARGETS, st.sampled_from([1, 2]))
def test_a_parameter_budget_is_respected(
    toy: ep.Potential, fraction: float, targets: list[Target], round_to: int
) -> None:
    scores = ep.calibrate(toy, [], ep.Random(2))
    try:
        plan = ep.allocate(toy, [ep.Parameters(fraction), *targets], scores, round_to=round_to)
    except TargetError:
        return  # the smallest model is over the budget: said with numbers, see below
    child = ep.prune(toy, plan)
    assert trainable(child) == ep.count_parameters(toy.adapter, child.architecture).trainable
    assert trainable(child) <= fraction * trainable(toy)


@pytest.mark.parametrize("fraction", [0.4, 0.5, 0.7, 0.9])
def test_a_parameter_budget_is_spent(toy: ep.Potential, scores: ep.ImportanceScores, fraction: float) -> None:
    plan = ep.allocate(toy, [ep.Parameters(fraction)], scores)
    largest_channel = 60  # of any space of the toy, its partner in the size group included
    assert fraction * trainable(toy) - largest_channel <= trainable(ep.prune(toy, plan)) <= fraction * trainable(toy)


def test_the_best_scored_channels_stay(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    values = {SCALAR: np.array([5.0, 1, 4, 2, 6, 3]), VECTOR: np.array([0.1, 0.4, 0.2, 0.3])}
    given_scores = replace(scores, mean={**scores.mean, "node_feats.1": values})
    plan = ep.allocate(toy, [ep.HiddenIrreps.parse("6x0e,3x0e+2x1o,5x0e")], given_scores)
    assert plan.masks["node_feats.1"].of(SCALAR) == (0, 2, 4)
    assert plan.masks["node_feats.1"].of(VECTOR) == (1, 3)
    assert "node_feats.0" not in plan.masks


def test_a_budget_is_spent_where_the_scores_are(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    vectors_matter = {
        name: {ir: v * (1e3 if ir == VECTOR else 1e-3) for ir, v in by.items()} for name, by in scores.mean.items()
    }
    plan = ep.allocate(toy, [ep.Parameters(0.5)], replace(scores, mean=vectors_matter))
    assert kept(toy, plan)["node_feats.1"].endswith("4x1o")
    scalars_matter = {
        name: {ir: v * (1e-3 if ir == VECTOR else 1e3) for ir, v in by.items()} for name, by in scores.mean.items()
    }
    plan = ep.allocate(toy, [ep.Parameters(0.8, floor=0)], replace(scores, mean=scalars_matter))
    assert "1o" not in kept(toy, plan)["node_feats.1"]


@pytest.mark.slow
@given(st.floats(0, 0.6), st.integers(0, 100))
def test_every_irrep_keeps_the_floor_of_a_budget(toy: ep.Potential, floor: float, seed: int) -> None:
    plan = ep.allocate(toy, [ep.Parameters(0.6, floor)], ep.calibrate(toy, [], ep.Random(seed)))
    for space in toy.spaces:
        if space.role in HIDDEN:
            assert all(len(plan.mask(space).of(ir)) >= floor * mul for mul, ir in space.irreps)


def test_hidden_multiplicities_are_rounded(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    plan = ep.allocate(toy, [ep.HiddenIrreps.parse("5x0e,6x0e+3x1o,3x0e")], scores, round_to=4)
    assert [kept(toy, plan)[f"node_feats.{t}"] for t in range(3)] == ["4x0e", "4x0e+4x1o", "4x0e"]
    plan = ep.allocate(toy, [ep.HiddenIrreps.parse("5x0e,6x0e+1x1o,3x0e")], scores, round_to=2)
    assert [kept(toy, plan)[f"node_feats.{t}"] for t in range(3)] == ["4x0e", "6x0e+2x1o", "2x0e"]


def test_a_budget_of_rounded_multiplicities_stays_rounded(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    plan = ep.allocate(toy, [ep.Parameters(0.5)], scores, round_to=2)
    assert all(mul % 2 == 0 for space in toy.spaces if space.role in HIDDEN for mul, _ in plan.mask(space).kept_irreps)


def test_targets_fix_counts(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    targets = [
        ep.HiddenIrreps.parse("4x0e,5x0e+2x1o,3x0e"),
        ep.RadialWidth((6,)),
        ep.RadialBasis(3),
        ep.EdgeLmax(0),
        ep.Elements((8, 1)),
    ]
    plan = ep.allocate(toy, targets, scores)
    assert kept(toy, plan) == {
        "elements": "2x0e",
        "edge_attrs": "1x0e",
        "radial_basis": "3x0e",
        "node_feats.0": "4x0e",
        "edge_irreps.0": "4x0e",
        "radial.0": "6x0e",
        "node_feats.1": "5x0e+2x1o",
        "edge_irreps.1": "5x0e+2x1o",
        "radial.1": "6x0e",
        "node_feats.2": "3x0e",
    }
    assert ep.prune(toy, plan).architecture.elements == (8, 1)


def test_one_list_of_irreps_is_for_every_space_that_has_them(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    plan = ep.allocate(toy, [ep.HiddenIrreps.parse("4x0e+2x1o")], scores)
    assert [kept(toy, plan)[f"node_feats.{t}"] for t in range(3)] == ["4x0e", "4x0e+2x1o", "4x0e"]


def test_whole_irreps_go_without_scores(toy: ep.Potential) -> None:
    assert kept(toy, ep.allocate(toy, [ep.Lmax(0)]))["node_feats.1"] == "6x0e"
    assert ep.allocate(toy, []).keeps_all


def test_an_exact_plan_is_taken_as_it_is(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    plan = ep.allocate(toy, [ep.Channels(3)], scores)
    assert ep.allocate(toy, [ep.FromPlan(plan)]) == plan


def test_lossless_removes_what_the_other_targets_leave_dead(toy: ep.Potential) -> None:
    weights = {**toy.checkpoint.weights, "readout_weight": torch.tensor([1.0, 0, 1, 1, 0])}
    checkpoint = replace(toy.checkpoint, weights=weights)
    half_dead = ep.Potential.create(toy.adapter, checkpoint, torch.float64)
    assert ep.allocate(half_dead, [ep.Lossless()]).masks["node_feats.2"].of(SCALAR) == (0, 2, 3)
    plan = ep.allocate(half_dead, [ep.Lossless(), ep.Lmax(0), ep.Elements((8, 1))])
    assert plan.masks["node_feats.2"].of(SCALAR) == (0, 2, 3)
    assert kept(toy, plan)["node_feats.1"] == "6x0e"


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.lists(st.builds(ep.Channels, st.integers(1, 6)), max_size=1))
def test_other_targets_choose_within_an_exact_plan(toy: ep.Potential, seed: int, targets: list[Target]) -> None:
    given_plan = random_plan(toy, np.random.default_rng(seed))
    scores = ep.calibrate(toy, [], ep.Random(seed))
    plan = ep.allocate(toy, [ep.FromPlan(given_plan), ep.Parameters(0.5), *targets], scores)
    assert plan & given_plan == plan
    assert trainable(ep.prune(toy, plan)) <= 0.5 * trainable(toy)


def test_a_budget_holds_where_a_space_has_its_minimum(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    plan = ep.allocate(toy, [ep.HiddenIrreps.parse("6x0e,6x0e+4x1o,1x0e"), ep.Parameters(0.5)], scores)
    assert kept(toy, plan)["node_feats.2"] == "1x0e"
    assert trainable(ep.prune(toy, plan)) <= 0.5 * trainable(toy)


IMPOSSIBLE: list[tuple[Target, str]] = [
    (ep.HiddenIrreps.parse("7x0e"), r"7x0e is more .*6x0e\+4x1o"),
    (ep.HiddenIrreps.parse("4x0e+2x2e"), r"2x2e is more .*6x0e\+4x1o"),
    (ep.HiddenIrreps.parse("4x0e,4x0e"), r"one list or 3, not 2.*6x0e\+4x1o"),
    (ep.HiddenIrreps.parse("6x0e,6x0e+5x1o,5x0e"), r"5x1o is more than node_feats.1 has: it is '6x0e\+4x1o'"),
    (ep.HiddenIrreps.parse("2x1o"), "at least 1"),
    (ep.Lmax(2), "`lmax` 2 is not possible: this model allows 0 to 1"),
    (ep.Lmax(-1), "allows 0 to 1"),
    (ep.EdgeLmax(2), "`edge_lmax` 2 is not possible: this model allows 0 to 1"),
    (ep.Channels(0), "`channels` 0 is not possible: this model allows 1 to 6"),
    (ep.RadialWidth((9,)), "`radial_width` 9 is not possible: this model allows 1 to 8"),
    (ep.RadialWidth((2, 2)), "one number or 1, not 2"),
    (ep.RadialBasis(5), "`radial_basis` 5 is not possible: this model allows 1 to 4"),
    (ep.Elements((1, 29)), "does not know Cu. It knows H, C, O, Si"),
    (ep.Elements((1, 1)), "exactly once"),
    (ep.Elements(()), "at least one"),
    (ep.Heads(("omat24",)), "omat24 cannot be chosen: this model has a single"),
    (ep.Parameters(0.01), r"can keep 0\.\d+ to 1 of its 581 trainable"),
    (ep.Parameters(1.5), r"can keep 0\.\d+ to 1 of its 581 trainable"),
    (ep.Parameters(float("nan")), r"can keep 0\.\d+ to 1 of its 581 trainable"),
]


@pytest.mark.parametrize(("target", "message"), IMPOSSIBLE, ids=[str(target) for target, _ in IMPOSSIBLE])
def test_an_impossible_target_says_what_is_possible(
    toy: ep.Potential, scores: ep.ImportanceScores, target: Target, message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        ep.allocate(toy, [target], scores)


def test_rounding_away_all_scalars_is_refused(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    with pytest.raises(TargetError, match="at least 1"):
        ep.allocate(toy, [ep.Channels(4)], scores, round_to=16)


def test_a_choice_of_channels_needs_scores(toy: ep.Potential) -> None:
    with pytest.raises(
        TargetError, match=r"2 of 6 channels of 0e in node_feats.0 needs importance scores.*`criterion`"
    ):
        ep.allocate(toy, [ep.Channels(2)])
    with pytest.raises(TargetError, match="`parameters` needs importance scores"):
        ep.allocate(toy, [ep.Parameters(0.5)])


def test_scores_that_lack_a_space_are_refused(toy: ep.Potential, scores: ep.ImportanceScores) -> None:
    lacking = {name: by for name, by in scores.mean.items() if name != "edge_irreps.1"}
    with pytest.raises(PlanError, match=r"edge_irreps\.1"):
        ep.allocate(toy, [ep.Channels(2)], replace(scores, mean=lacking))


def test_scores_and_plans_of_another_model_are_refused(toy: ep.Potential, single: ep.Potential) -> None:
    with pytest.raises(PlanError, match="another model"):
        ep.allocate(toy, [ep.Channels(2)], ep.calibrate(single, [], ep.Random()))
    plan = ep.allocate(single, [ep.Channels(1)], ep.calibrate(single, [], ep.Random()))
    with pytest.raises(PlanError, match="the model has"):
        ep.allocate(toy, [ep.FromPlan(plan)])


def test_targets_that_contradict_each_other_are_refused(toy: ep.Potential) -> None:
    only_carbon = ep.allocate(toy, [ep.Elements((6,))])
    with pytest.raises(TargetError, match="disagree on which elements"):
        ep.allocate(toy, [ep.Elements((1,)), ep.FromPlan(only_carbon)])


@pytest.mark.parametrize(
    ("parse", "text"), [(ep.RadialWidth.parse, "4,x"), (ep.HiddenIrreps.parse, "4x0e,"), (ep.Elements.parse, "H,Oo")]
)
def test_words_that_are_no_target_are_refused(parse: Callable[[str], Target], text: str) -> None:
    with pytest.raises(TargetError):
        parse(text)
