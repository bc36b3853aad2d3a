"""Candidates: each keeps the budget by prediction, is as large as that allows, and keeps what must be kept."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretended_machine import seconds

import equiprune as ep
from equiprune.blocks import Role
from equiprune.errors import TargetError
from equiprune.pruning.counts import PruningProblem
from equiprune.pruning.widths import units
from equiprune.searching.budget import Budget, Cost
from equiprune.searching.candidates import Asked, Candidate, drawn
from equiprune.searching.cost_model import CostModel
from equiprune.searching.shapes import Shape, shapes

PARENT = ep.load("toy")
MODEL = PruningProblem(PARENT.adapter, PARENT.architecture, PARENT.spaces)
COUNT = CostModel(PARENT.adapter, PARENT.architecture, ())


def parameters(architecture: object) -> Cost:
    """Costs that are counted: all of them are the share of the parameters."""
    share = COUNT.parameters(architecture)
    return Cost(share, share, share)


def asked(fraction: float, *targets: ep.FromPlan, round_to: int = 1, scores: object = None) -> Asked:
    scores = scores or ep.data_free_scores(PARENT, ep.Magnitude())
    return Asked(MODEL, tuple(targets), scores, Budget(parameters=fraction), parameters, round_to)


fractions = st.floats(0.2, 1.0)
shape = st.sampled_from(shapes(MODEL))


def check(found: Candidate, request: Asked) -> None:
    """Its plan can be made, and costs what it says, within the budget."""
    child = ep.prune(PARENT, found.plan)
    assert parameters(child.architecture) == found.predicted
    assert request.budget.excess(found.predicted) <= 1


@pytest.mark.slow
@given(fractions, shape)
@settings(max_examples=12, deadline=None)
def test_candidates_keep_the_budget_and_cannot_be_larger(fraction: float, chosen: tuple) -> None:
    request = asked(fraction)
    smallest = request.smallest(chosen)
    assert smallest is not None
    for found in (request.even(chosen), request.by_importance(chosen)):
        if found is None:
            continue
        check(found, request)
    even = request.even(chosen)
    assert (even is None) == (request.budget.excess(smallest.predicted) > 1)
    if even is not None:
        widest = request.restored("", chosen, asked(1.0).even(chosen).plan)  # type: ignore[union-attr]
        wider = [n + 1 if n < widest.counts[key] else n for key, n in even.counts.items()]
        if list(even.counts.values()) != list(widest.counts.values()):
            assert parameters_of(dict(zip(even.counts, wider, strict=True))) > fraction


def parameters_of(counts: dict) -> float:
    return asked(1.0)._cost_of(counts).parameters


@pytest.mark.parametrize(("fraction", "full"), [(1.0, True), (0.5, False)])
def test_a_candidate_that_lost_its_shape_alone_is_known(fraction: float, full: bool) -> None:
    request, chosen = asked(fraction), shapes(MODEL)[1]
    found = request.even(chosen)
    assert found is not None
    assert request.is_full(found) == full


@pytest.mark.slow
@given(fractions, st.integers(0, 100))
@settings(max_examples=8, deadline=None)
def test_a_changed_candidate_is_another_one_within_the_budget(fraction: float, seed: int) -> None:
    request = asked(fraction)
    start = request.even(())
    assert start is not None
    found = request.changed(start, 7, (), np.random.default_rng(seed))
    assert found is not None
    check(found, request)
    assert found.made == "changed from 7"
    again = request.changed(start, 7, (), np.random.default_rng(seed))
    assert again is not None
    assert again.plan == found.plan


def test_importance_gives_more_to_what_matters_more() -> None:
    """The same budget, with all importance in the vectors and then all in the scalars."""
    flat = ep.data_free_scores(PARENT, ep.Random(0))
    kept = []
    for degree in (0, 1):
        mean = {
            name: {ir: v * (1e3 if ir.l == degree else 1e-3) for ir, v in by.items()} for name, by in flat.mean.items()
        }
        found = asked(0.6, scores=replace(flat, mean=mean)).by_importance(())
        assert found is not None
        kept.append(sum(n for (group, ir), n in found.counts.items() if ir.l == 1 and group.startswith("hidden")))
    assert kept[0] < kept[1]


def test_the_same_in_another_size() -> None:
    request = asked(0.5)
    start = request.by_importance(())
    assert start is not None
    smaller = request.again(start, 0.7)
    assert smaller is not None
    assert 0.25 < smaller.predicted.parameters <= 0.35 < start.predicted.parameters


def test_constraints_are_kept() -> None:
    elements = ep.Elements.parse("O,Si")
    request = asked(0.5, elements)
    for found in (request.even(()), request.by_importance(()), request.smallest(())):
        assert found is not None
        assert ep.prune(PARENT, found.plan).architecture.elements == (8, 14)
    rounded = asked(0.7, round_to=2).even(())
    assert rounded is not None
    hidden = {space.name for space in PARENT.spaces if space.role.hidden}
    assert all(
        len(kept) % 2 == 0 or len(kept) == 5 for n, m in rounded.plan.masks.items() if n in hidden for kept in m.kept
    )


@pytest.mark.parametrize("round_to", [1, 2])
@pytest.mark.parametrize("chosen", shapes(MODEL, keep_lmax=1))
def test_no_width_loses_an_l_that_is_to_be_kept(chosen: Shape, round_to: int) -> None:
    """In no space that has it, however small the model; without being told, some do."""

    def lost(request: Asked) -> list[bool]:
        start, smallest = asked(1.0, round_to=round_to).even(chosen), request.smallest(chosen)
        assert start is not None
        assert smallest is not None
        tight = replace(request, budget=Budget(parameters=smallest.predicted.parameters * 1.01))
        made = [smallest, tight.even(chosen), tight.by_importance(chosen), tight.again(start, 1.0)]
        made += [tight.changed(start, 0, chosen, np.random.default_rng(seed)) for seed in range(5)]
        wanted = [key for key, n in start.counts.items() if n and key[1].l == 1]
        return [any(not each.counts[key] for key in wanted) for each in made if each is not None]

    free = asked(1.0, round_to=round_to)
    assert any(lost(free))
    assert not any(lost(replace(free, keep_lmax=1)))


def test_rounding_loses_no_l_that_is_to_be_kept() -> None:
    """No candidate is made where channels of an l are too few for a step."""
    request = asked(1.0, round_to=5)
    assert request.smallest(()) is not None
    assert replace(request, keep_lmax=1).smallest(()) is None


def test_a_budget_that_no_width_keeps_has_no_candidate() -> None:
    request = asked(0.01)
    assert request.even(()) is request.by_importance(()) is None


@given(st.integers(0, 200), shape)
@settings(max_examples=12, deadline=None)
def test_models_for_the_cost_model_can_be_made(seed: int, chosen: tuple) -> None:
    plan = drawn(MODEL, (), [chosen], np.random.default_rng(seed))
    child = ep.prune(PARENT, plan)
    assert seconds(child) <= seconds(PARENT)


def test_a_shape_that_leaves_no_model_is_not_drawn() -> None:
    random, impossible = np.random.default_rng(0), (ep.HiddenIrreps.parse("9x7e"),)
    assert drawn(MODEL, (), [impossible, ()], random)
    with pytest.raises(TargetError, match=r"The constraints leave nothing to choose\. Ask for fewer of them\."):
        drawn(MODEL, (), [impossible], random)


def test_shapes_lose_least_first_and_keep_the_l_that_is_asked_for() -> None:
    every = shapes(MODEL)
    assert every[0] == ()
    assert (ep.RadialWidth((4,)),) in every
    assert len(set(every)) == len(every)


def test_shapes_of_a_model_of_higher_l() -> None:
    from equiprune.adapters.toy import ToyAdapter, ToyArchitecture

    tall = ToyArchitecture(elements=(1,), cutoff=3.0, hidden_irreps=("4x0e", "4x0e+2x1o", "4x0e"))
    model = PruningProblem(ToyAdapter(), tall, ToyAdapter().spaces(tall))
    lmax = max(space.irreps.lmax for space in model.of(Role.NODE_FEATS))
    assert lmax == 1
    assert not any(isinstance(target, ep.Lmax) for chosen in shapes(model, keep_lmax=1) for target in chosen)


def test_units_cover_every_width_once() -> None:
    keys = [key for unit in units(MODEL, MODEL.full()) for key in unit.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_a_margin_is_kept(margin: float) -> None:
    request = asked(0.8)
    start = request.even(())
    assert start is not None
    found = request.again(start, margin)
    assert found is not None
    assert found.predicted.parameters <= 0.8 * margin
