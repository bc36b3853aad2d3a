"""Rules: what they refuse, and that a mask widened by them is allowed and keeps what it kept."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiprune import BlockMask, FeatureSpace, Irrep, Irreps, PruningPlan
from equiprune.blocks import (
    Entries,
    HighestL,
    IrrepsText,
    KeepsDegrees,
    KeepsFirst,
    KeepsOrder,
    KeepsScalars,
    NumberOfChannels,
    NumberOfChannelsPerL,
    OneChannelSet,
    PrefixOnly,
    Role,
    Rule,
    SameCounts,
    SameCountsUpstream,
    TopDown,
    resized,
    widened_together,
)
from equiprune.errors import PlanError

SCALAR, VECTOR = Irrep(0, 1), Irrep(1, -1)
IRREPS = Irreps.parse("4x0e+4x1o+4x2e")
RULES = (
    KeepsScalars(2),
    KeepsDegrees(1),
    TopDown(),
    OneChannelSet(),
    KeepsFirst(2),
    KeepsOrder(),
    PrefixOnly(),
    SameCounts("g"),
    SameCountsUpstream("g"),
)
SETS = st.lists(st.sampled_from(RULES), max_size=4, unique=True).map(tuple)
KEPT = st.lists(st.integers(0, 3), unique=True, max_size=4).map(tuple)
MASKS = st.tuples(KEPT, KEPT, KEPT).map(lambda kept: BlockMask(IRREPS, kept))


def space(*rules: Rule, name: str = "x") -> FeatureSpace:
    return FeatureSpace(name, IRREPS, Role.NODE_FEATS, rules=rules)


def mask(*kept: list[int]) -> BlockMask:
    return BlockMask(IRREPS, tuple(map(tuple, kept)))


@pytest.mark.parametrize(
    ("rule", "refused", "says"),
    [
        (KeepsScalars(2), mask([3], [0], [0]), "at least 2"),
        (KeepsDegrees(1), mask([0], [], [0]), "would lose all of 1o; this architecture needs l = 0 to 1"),
        (TopDown(), mask([0], [], [0]), "from the highest l downwards, not to '1x0e.1x2e'"),
        (OneChannelSet(), mask([0, 1], [0], []), "one channel set for all l"),
        (KeepsFirst(2), mask([0, 2], [], []), "one of its first 2"),
        (KeepsOrder(), mask([0, 2, 1], [], []), r"another order \[\[0, 2, 1\], \[\], \[\]\]"),
        (PrefixOnly(), mask([0, 1, 2, 3], [1], []), "from its last channel backwards"),
        (PrefixOnly(), mask([0, 1, 2], [0], []), "from its last channel backwards"),
    ],
    ids=str,
)
def test_a_plan_that_breaks_a_rule_is_refused_in_its_words(rule: Rule, refused: BlockMask, says: str) -> None:
    with pytest.raises(PlanError, match=f"x .*{says}"):
        PruningPlan({"x": refused}).check([space(rule)])
    allowed = space(rule).widened(refused)
    PruningPlan({"x": allowed}).check([space(rule)])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_keeping_everything_breaks_no_rule(rule: Rule) -> None:
    assert not rule.broken_by(BlockMask.all(IRREPS))
    assert rule.widened(BlockMask.all(IRREPS)) == BlockMask.all(IRREPS)


@given(SETS, MASKS)
def test_a_widened_mask_is_allowed_and_keeps_what_was_kept(rules: tuple[Rule, ...], given_mask: BlockMask) -> None:
    one = space(*rules)
    wider = one.widened(given_mask)
    PruningPlan({"x": wider}).check([one])
    assert all(set(kept) <= set(more) for kept, more in zip(given_mask.kept, wider.kept, strict=True))
    assert one.widened(wider) == wider


def test_of_nothing_the_first_channel_comes_back() -> None:
    assert PrefixOnly().widened(mask([], [], [])) == mask([0], [], [])


@pytest.mark.parametrize(("irreps", "kept"), [("4x0e+4x1o", (2,)), ("4x0e+2x1o", (0,))])
def test_an_irrep_comes_back_with_a_channel_that_is_kept_where_it_has_it(irreps: str, kept: tuple[int, ...]) -> None:
    scalars_alone = BlockMask(Irreps.parse(irreps), ((2, 3), ()))
    assert KeepsDegrees(1).widened(scalars_alone).kept == ((2, 3), kept)


@given(SETS, MASKS)
def test_what_is_allowed_is_not_widened(rules: tuple[Rule, ...], given_mask: BlockMask) -> None:
    one = space(*rules)
    if not any(rule.broken_by(given_mask) for rule in one.rules):
        assert one.widened(given_mask) == given_mask


@given(SETS, st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_the_best_channels_are_allowed(rules: tuple[Rule, ...], seed: int, count: int) -> None:
    one, generator = space(*(rule for rule in rules if rule != PrefixOnly())), np.random.default_rng(seed)
    ranked = one.ranked({ir: generator.random(mul) for mul, ir in IRREPS})
    best = {ir: sorted(np.argsort(-values, kind="stable")[:count].tolist()) for ir, values in ranked.items()}
    PruningPlan({"x": BlockMask.keep(IRREPS, best)}).check([one])


def test_a_beginning_is_ranked_first_whatever_the_scores() -> None:
    ranked = space(PrefixOnly()).ranked({SCALAR: np.array([0.0, 5.0, 1.0])})
    assert np.argsort(-ranked[SCALAR]).tolist() == [0, 1, 2]


def test_one_channel_set_is_ranked_by_what_it_is_worth_for_all_l() -> None:
    ranked = space(OneChannelSet()).ranked({SCALAR: np.array([3.0, 1.0]), VECTOR: np.array([0.0, 4.0])})
    assert ranked[SCALAR].tolist() == ranked[VECTOR].tolist() == [3.0, 5.0]


@given(MASKS, MASKS)
def test_spaces_of_a_group_are_widened_to_equal_counts(first: BlockMask, second: BlockMask) -> None:
    spaces = [space(SameCounts("g"), KeepsScalars(2)), space(SameCounts("g"), OneChannelSet(), name="y")]
    wider = widened_together(spaces, {"x": first, "y": second})
    PruningPlan(wider).check(spaces)
    assert all(set(a) <= set(b) for a, b in zip(first.kept, wider["x"].kept, strict=True))


def test_every_space_keeps_a_scalar_unless_more_is_said() -> None:
    assert space().rules == (KeepsScalars(1),)
    assert space(KeepsScalars(3)).rules == (KeepsScalars(3),)
    assert str(space(KeepsScalars(3), KeepsDegrees(1)).smallest().kept_irreps) == "3x0e+1x1o"


@dataclass(frozen=True)
class Layer:
    irreps: str
    lmax: int


@dataclass(frozen=True)
class Architecture:
    elements: tuple[int, ...] = (1, 6, 8)
    channels: int = 12
    per_l: int = 4
    layers: tuple[Layer, ...] = (Layer("4x0e", 2), Layer("4x0e+4x1o+4x2e", 2))


def test_what_is_kept_is_written_to_the_fields_that_a_space_names() -> None:
    sizes = (
        NumberOfChannels("channels"),
        NumberOfChannelsPerL("per_l"),
        IrrepsText("layers", 1, "irreps"),
        HighestL("layers", 1, "lmax"),
    )
    scalars = Irreps.scalars(3), Irreps.scalars(2)
    spaces = (
        FeatureSpace("elements", scalars[0], Role.ELEMENTS, size_in=(Entries("elements"),)),
        FeatureSpace("layers", scalars[1], Role.INTERACTIONS, size_in=(Entries("layers"),)),
        replace(space(), size_in=sizes),
    )
    plan = PruningPlan({"x": mask([0, 2], [1], []), "elements": BlockMask(scalars[0], ((2, 0),))})
    left = resized(Architecture(), spaces, plan)
    assert left == Architecture((8, 1), 3, 2, (Layer("4x0e", 2), Layer("2x0e+1x1o", 1)))
    shorter = PruningPlan({**plan.masks, "layers": BlockMask(scalars[1], ((1,),))})
    assert resized(Architecture(), spaces, shorter).layers == (Layer("2x0e+1x1o", 1),)
    assert resized(Architecture(), spaces, PruningPlan.nothing()) == Architecture()
    of_vectors = replace(space(), size_in=(NumberOfChannels("channels", irrep=VECTOR),))
    assert resized(Architecture(), (of_vectors,), plan).channels == 1
    assert IrrepsText("layers", 1) == IrrepsText("layers", 1) != HighestL("layers", 1)
    assert len({IrrepsText("layers", 1), IrrepsText("layers", 1), HighestL("layers", 1)}) == 2
    assert repr(IrrepsText("layers", 1)) == "IrrepsText('layers', 1)"
