"""Budgets: what keeps them, what is refused, and how they are said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiprune.errors import TargetError
from equiprune.searching.budget import Budget, Cost

positive = st.floats(1e-3, 1e3)


@given(positive, positive, positive, st.floats(1, 100), st.floats(0.01, 1))
def test_a_cost_keeps_a_budget_if_it_keeps_every_part_of_it(
    time: float, memory: float, parameters: float, faster: float, fraction: float
) -> None:
    cost = Cost(time, memory, parameters)
    budgets = [Budget(faster=faster), Budget(parameters=fraction), Budget(memory=500.0, atoms=10)]
    together = Budget(faster=faster, parameters=fraction, memory=500.0, atoms=10)
    assert together.excess(cost) == max(each.excess(cost) for each in budgets)
    assert budgets[0].excess(cost) == pytest.approx(faster / cost.speed)
    assert budgets[1].excess(cost) == pytest.approx(parameters / fraction)
    assert budgets[2].excess(cost) == pytest.approx(memory * 10 / 500)


def test_memory_that_is_not_known_keeps_no_budget() -> None:
    assert Budget(memory=1e9, atoms=10).excess(Cost(1.0, None, 1.0)) == float("inf")
    assert Budget(faster=1.0).excess(Cost(1.0, None, 1.0)) == 1.0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "Say what you can afford"),
        ({"faster": 0.5}, "`faster` 0.5 is not possible: give 1 or more"),
        ({"faster": float("nan")}, "`faster` nan is not possible"),
        ({"faster": float("inf")}, "`faster` inf is not possible"),
        ({"parameters": 0.0}, "`parameters` 0 is not possible"),
        ({"parameters": 1.5}, "`parameters` 1.5 is not possible"),
        ({"memory": 1e9}, "give both or neither"),
        ({"atoms": 100}, "give both or neither"),
        ({"memory": -1.0, "atoms": 100}, "`memory` -1 is not possible"),
        ({"max_force_error": 0.0}, "`max_force_error` 0 is not possible"),
    ],
)
def test_impossible_budgets_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(TargetError) as refused:
        Budget(**given)
    assert says in str(refused.value)


def test_a_budget_in_words() -> None:
    budget = Budget(faster=3.0, memory=8e9, atoms=5000, parameters=0.3, max_force_error=40.0)
    assert str(budget) == (
        "at least 3 times as fast, at most 8 GB for 5000 atoms, at most 0.3 of the parameters, the smallest with force "
        "errors up to 40 meV/Angstrom"
    )
