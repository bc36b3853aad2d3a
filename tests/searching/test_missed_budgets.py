"""Candidates that miss the budget as measured, or cannot be built: what the search makes of them, and says."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from pretended_machine import pretend, seconds
from toy_search import BRIEF, EFFORT, SETTINGS, searched

import equiprune as ep
from equiprune.errors import PlanError, TargetError
from equiprune.searching import material, rounds
from equiprune.searching.journal import Journal, LeftOut

pytestmark = pytest.mark.slow


def test_a_model_that_misses_its_budget_when_measured_is_made_smaller(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cost model is wrong by a quarter: everything is slower than it says."""
    right = ep.Cost
    honest = rounds.CostModel.__call__
    monkeypatch.setattr(
        rounds.CostModel, "__call__", lambda *given: replace(honest(*given), time=0.8 * honest(*given).time)
    )
    found = searched(parent, labelled, tmp_path / "search", settings=BRIEF)
    assert isinstance(found.chosen.measured, right)
    assert found.chosen.measured.speed >= 1.25
    assert seconds(parent) / seconds(ep.prune(parent, found.plan)) >= 1.25
    first = found.journal.tried[found.chosen.number]
    assert ep.prune(parent, first.plan).parameters() > ep.prune(parent, found.plan).parameters()


def test_a_model_that_misses_its_budget_when_measured_again_is_made_smaller_or_left(
    parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer measurements of this machine are a fifth slower than brief ones."""
    pretend(monkeypatch)
    exact, said = rounds.measured, list[str]()

    def slower(parent: ep.Potential, child: ep.Potential, timed: Any, repeats: int) -> Any:
        found = exact(parent, child, timed, repeats)
        return replace(found, time=found.time * 1.2) if repeats > 5 else found

    monkeypatch.setattr(rounds, "measured", slower)
    found = searched(parent, labelled, tmp_path / "search", watchers=ep.Watchers(note=said.append))
    assert any("measured again, which misses the budget" in text for text in said)
    assert found.chosen.confirmed
    child = ep.prune(parent, found.plan)
    speed = seconds(parent) / seconds(child) / 1.2
    assert 1.25 / 1.02 <= speed == pytest.approx(found.chosen.measured.speed)


def missing(monkeypatch: pytest.MonkeyPatch, finalists: int) -> None:
    """So many finalists miss the budget when they are measured again, and have no smaller size that keeps it."""
    exact, again = rounds.measured, list[Any]()

    def measured(parent: ep.Potential, child: ep.Potential, timed: Any, repeats: int) -> Any:
        found = exact(parent, child, timed, repeats)
        if repeats <= 5:
            return found
        again.extend([found.work] if found.work not in again else [])
        return replace(found, time=found.time * 1.2) if again.index(found.work) < finalists else found

    monkeypatch.setattr(rounds, "measured", measured)
    monkeypatch.setattr(rounds.Round, "_smaller", lambda *_: None)


THIRD = replace(SETTINGS, effort=replace(EFFORT, candidates=4, finalists=1))


def test_a_search_whose_finalists_miss_the_budget_goes_on_with_the_next_ones(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends in the same choice where it is interrupted whenever something new was written."""
    missing(monkeypatch, 2)
    found = searched(parent, labelled, tmp_path / "search", settings=THIRD)
    order = sorted(found.journal.tried, key=lambda each: each.forces)
    assert [each.number for each in found.journal.finalists] == [each.number for each in order[:3]]
    assert (found.chosen.number, found.chosen.confirmed) == (order[2].number, True)
    save: Callable[[Journal, Path], None] = Journal.save

    def interrupted(journal: Journal, path: Path) -> None:
        before = path.read_text() if path.exists() else ""
        save(journal, path)
        if path.read_text() != before:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "save", interrupted)
    for _ in range(100):
        with contextlib.suppress(KeyboardInterrupt):
            again = searched(parent, labelled, tmp_path / "again", settings=THIRD)
            break
    assert again.to_json() == found.to_json()


def test_a_candidate_of_which_no_size_keeps_the_budget_is_not_measured_again(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the search was interrupted, and the machine is faster by now."""
    exact, save = rounds.measured, Journal.save

    def interrupted(journal: Journal, path: Path) -> None:
        save(journal, path)
        if journal.finalists:
            raise KeyboardInterrupt

    with monkeypatch.context() as slow:
        slow.setattr(rounds, "measured", lambda *given: replace(exact(*given), time=100.0))
        slow.setattr(Journal, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            searched(parent, labelled, tmp_path / "search", settings=THIRD)
    found = searched(parent, labelled, tmp_path / "search", settings=THIRD)
    first, second = sorted(found.journal.tried, key=lambda each: each.forces)[:2]
    assert {each.number: each.left_out for each in found.journal.finalists} == {
        first.number: LeftOut.TOO_COSTLY,
        second.number: None,
    }
    assert found.chosen.number == second.number


def test_a_search_in_which_nothing_keeps_the_budget_says_what_came_nearest(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing(monkeypatch, 100)
    with pytest.raises(TargetError) as refused:
        searched(parent, labelled, tmp_path / "search", settings=THIRD)
    assert "None of 4 candidates that were measured keeps the budget (at least 1.25 times as fast)" in str(
        refused.value
    )
    finalists = Journal.from_json(json.loads((tmp_path / "search" / "journal.json").read_text())).finalists
    nearest = min(finalists, key=lambda each: each.measured.time)
    assert f"The nearest, candidate {nearest.number}, is {nearest.measured.speed:.2f} times as fast" in str(
        refused.value
    )


def test_candidates_that_cannot_be_built_say_why(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> ep.Potential:
        raise PlanError("a fault of the plan.")

    monkeypatch.setattr(material.Material, "built", broken)
    said: list[str] = []
    with pytest.raises(TargetError, match=r"None of 2 candidates could be built .* candidate 0: a fault of the plan"):
        searched(parent, labelled, tmp_path / "search", settings=BRIEF, watchers=ep.Watchers(note=said.append))
    assert sum("it could not be built or evaluated: a fault of the plan." in each for each in said) == 2
