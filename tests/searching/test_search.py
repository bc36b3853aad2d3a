"""A search: it ends in a model that keeps the budget as measured, goes on where it stopped, and says why."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from pretended_machine import OVERHEAD, peak, pretend, seconds
from toy_search import BRIEF, EFFORT, FAST, SETTINGS, searched

import equiprune as ep
from equiprune.errors import OutputError, StructureError, TargetError
from equiprune.pruning import displacing
from equiprune.pruning.repair import WorseError
from equiprune.searching import cost_table, material, rounds
from equiprune.searching.candidates import Candidate
from equiprune.searching.journal import Journal, LeftOut

pytestmark = pytest.mark.slow

ATOMS, WHOLE = 100, 104
"""Atoms of a budget of memory, and those of the copies of the largest structure that have so many."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `found`, and the cache that it left."""
    return tmp_path_factory.mktemp("found")


@pytest.fixture(scope="module")
def found(parent: ep.Potential, labelled: list[Atoms], kept: Path) -> ep.Found:
    with pytest.MonkeyPatch.context() as patched:
        pretend(patched)
        patched.setenv("EQUIPRUNE_CACHE", str(kept / "cache"))
        return searched(parent, labelled, kept / "search")


def test_the_chosen_model_keeps_the_budget_as_measured(found: ep.Found, parent: ep.Potential) -> None:
    child = ep.prune(parent, found.plan)
    speed = seconds(parent) / seconds(child)
    assert speed >= 1.25
    assert found.chosen.measured.speed == pytest.approx(speed)
    assert speed < 1.25 * 1.15, "as large as the budget allows, to a channel"
    assert len(found.journal.costs) == 10
    assert len(found.journal.tried) == 6
    assert len(found.journal.finalists) == 2


def test_the_chosen_one_has_the_smallest_error_of_those_that_were_trained(found: ep.Found) -> None:
    errors = [each.forces for each in found.journal.finalists]
    assert found.chosen.forces == min(errors)
    tried = sorted(each.errors.forces for each in found.journal.tried if each.errors)
    best = {each.number for each in found.journal.tried if each.errors and each.errors.forces <= tried[1]}
    assert {each.number for each in found.journal.finalists} == best


def test_both_ways_of_widths_and_changes_are_tried(found: ep.Found) -> None:
    made = [each.made for each in found.journal.tried]
    assert made[:2] == ["even widths", "by importance"]
    assert any(each.startswith("changed from") for each in made)
    plans = [json.dumps(each.plan.to_json(), sort_keys=True) for each in found.journal.tried]
    assert len(set(plans)) == len(plans)


def test_a_candidate_that_no_repair_made_better_is_said_to_be_unrepaired(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired, refused = material.repair, iter([True, False])

    def repair(*given: Any) -> Any:
        if next(refused, False):
            raise WorseError("worse.")
        return repaired(*given)

    monkeypatch.setattr(material, "repair", repair)
    said: list[str] = []
    found = searched(parent, labelled, tmp_path / "search", settings=BRIEF, watchers=ep.Watchers(note=said.append))
    stored = Journal.from_json(json.loads(json.dumps(found.to_json())))
    assert [each.repaired for each in stored.tried] == [False, True]
    [first] = [text for text in said if text.startswith("Candidate 0 (")]
    [second] = [text for text in said if text.startswith("Candidate 1 (")]
    assert "meV/Angstrom unrepaired: that is not possible, or makes them no better." in first
    assert second.endswith("meV/Angstrom after repair.")


def test_training_that_does_harm_is_said(
    parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    recipe = replace(SETTINGS.recipe, optimisation=replace(SETTINGS.recipe.optimisation, learning_rate=1.0))
    said: list[str] = []
    settings, watchers = replace(BRIEF, recipe=recipe), ep.Watchers(note=said.append)
    searched(parent, labelled, tmp_path / "search", settings=settings, watchers=watchers)
    assert any("before it: try a lower `learning_rate`" in each for each in said)


def diverging(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Brief training diverges that often, by a learning rate that is far too high, before it goes well."""
    trained, left = material.train, [times]

    def train(potential: ep.Potential, data: list[Atoms], recipe: ep.Recipe, *given: Any, **named: Any) -> ep.Potential:
        left[0] -= 1
        rate = 1e30 if left[0] >= 0 else recipe.optimisation.learning_rate
        optimisation = replace(recipe.optimisation, learning_rate=rate, clip=None)
        return trained(potential, data, replace(recipe, optimisation=optimisation), *given, **named)

    monkeypatch.setattr(material, "train", train)


def test_a_finalist_that_diverges_is_left_out_and_the_next_one_takes_its_place(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, 1)
    said: list[str] = []
    found = searched(parent, labelled, tmp_path / "search", settings=BRIEF, watchers=ep.Watchers(note=said.append))
    assert any("brief training diverged, so it is left out. Try a lower `learning_rate`" in each for each in said)
    stored = Journal.from_json(json.loads(json.dumps(found.to_json())))
    assert [each.left_out for each in stored.finalists] == [None, LeftOut.DIVERGED]
    assert found.finalists == [found.chosen]
    assert "of 1 that were trained" in found.reason
    assert found.chosen.number not in {each.number for each in stored.finalists if each.left_out}


def test_a_search_in_which_training_always_diverges_names_the_learning_rate(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, 100)
    for _ in range(2):
        with pytest.raises(TargetError, match=r"every finalist diverged .* Give a lower `learning_rate`"):
            searched(parent, labelled, tmp_path / "search")
    finalists = json.loads((tmp_path / "search" / "journal.json").read_text())["finalists"]
    assert [each["left_out"] for each in finalists] == ["diverged"] * 3, "the others are not even tried"


def test_errors_are_those_of_the_repaired_models_on_what_was_held_out(
    found: ep.Found, parent: ep.Potential, labelled: list[Atoms]
) -> None:
    first = found.journal.tried[0]
    training, held_out = ep.SearchData(labelled).split(0)
    cut = ep.prune(parent, first.plan)
    child = ep.repair(cut, parent, material.few(training, 10), displacements=1, seed=0).potential
    [right] = ep.evaluate({"": child}, material.few(held_out, 10))
    assert first.errors is not None
    assert first.errors.forces == pytest.approx(right.mae("forces"), rel=1e-3)


def test_the_reason_names_speed_and_error(found: ep.Found) -> None:
    assert f"{found.chosen.forces:.1f} meV/Angstrom" in found.reason
    assert f"{found.chosen.measured.speed:.2f} times as fast" in found.reason
    assert found.reason.count(". ") == 1
    value = json.loads(json.dumps(found.to_json()))
    assert ep.PruningPlan.from_json(value["plan"]) == found.plan
    assert value["cost_model_error"] == np.median(found.cost_errors)


def test_nothing_on_the_front_is_slower_and_worse(found: ep.Found) -> None:
    front = found.front
    assert front
    for fast, slow in pairwise(front):
        assert fast.measured.time <= slow.measured.time
        assert fast.forces > slow.forces


def test_an_interrupted_search_ends_in_the_same_choice(
    found: ep.Found,
    machine: list[str],
    parent: ep.Potential,
    labelled: list[Atoms],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After 3 of 10 measurements, after 2 of 6 candidates, before the training of a finalist, and again after it."""
    moments = iter(((3, 0, [], 3), (10, 2, [], 12), (10, 6, [False], 17), (10, 6, [True], 18)))
    saved, moment = 0, next(moments)
    save: Callable[[Journal, Path], None] = Journal.save

    def interrupted(journal: Journal, path: Path) -> None:
        nonlocal saved
        save(journal, path)
        saved += 1
        trained = [each.errors is not None for each in journal.finalists]
        if moment == (len(journal.costs), len(journal.tried), trained, saved):
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "save", interrupted)
    while moment:
        with pytest.raises(KeyboardInterrupt):
            searched(parent, labelled, tmp_path / "again")
        moment = next(moments, None)
    monkeypatch.setattr(Journal, "save", save)
    before = len(machine)
    steps: list[int] = []
    again = searched(parent, labelled, tmp_path / "again", watchers=ep.Watchers(progress=steps.append))
    assert sum(steps) == EFFORT.total(FAST), "what was finished before is counted"
    assert again.plan == found.plan
    assert [each.plan for each in again.journal.tried] == [each.plan for each in found.journal.tried]
    assert again.chosen.errors == found.chosen.errors
    assert again.reason == found.reason
    assert len(machine) - before < 10 + 2 * rounds._SIZES


def test_another_budget_measures_no_costs_again(
    found: ep.Found,
    machine: list[str],
    parent: ep.Potential,
    labelled: list[Atoms],
    tmp_path: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(kept / "cache"))
    said, steps = list[str](), list[int]()
    watchers = ep.Watchers(note=said.append, progress=steps.append)
    other = searched(parent, labelled, tmp_path / "other", ep.Budget(faster=1.5), watchers=watchers)
    assert other.journal.costs == found.journal.costs
    assert len(machine) <= 2 * rounds._SIZES, "finalists alone are measured"
    assert sum(steps) == EFFORT.total(FAST)
    assert "Costs were measured before on this machine." in said
    assert other.chosen.measured.speed >= 1.5


def test_a_folder_of_another_search_is_refused(
    found: ep.Found, parent: ep.Potential, labelled: list[Atoms], kept: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"asked for something else: budget\.faster differs"):
        searched(parent, labelled, kept / "search", ep.Budget(faster=1.3))
    (tmp_path / "search").mkdir()
    journal = tmp_path / "search" / "journal.json"
    for written, says in (("{}", "damaged"), ('{"format": "equiprune-search-2", "asked": {}}', "by another version")):
        journal.write_text(written)
        with pytest.raises(OutputError, match=says):
            searched(parent, labelled, tmp_path / "search")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda given: {"parent": given["parent"].with_dtype(torch.float64)}, r"something else: dtype differs"),
        (lambda given: {"data": replace(given["data"], ids=range(15))}, r"something else: ids_sha256 differs"),
        (lambda given: {"scores": ep.data_free_scores(given["parent"], ep.Random(1))}, r"else: scores_sha256 differs"),
    ],
)
def test_a_search_goes_on_only_under_the_same_conditions(
    other: Callable[[dict[str, Any]], dict[str, Any]],
    says: str,
    machine: list[str],
    parent: ep.Potential,
    labelled: list[Atoms],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun(parent, labelled, tmp_path, monkeypatch)
    given: dict[str, Any] = {"parent": parent, "data": ep.SearchData(labelled)}
    given |= {"scores": ep.data_free_scores(parent, ep.Random(0))}
    with pytest.raises(OutputError, match=says):
        ep.search(**(given | other(given)), budget=FAST, folder=tmp_path, settings=SETTINGS)


def test_a_search_goes_on_only_on_the_same_machine(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(parent, labelled, tmp_path, monkeypatch)
    monkeypatch.setattr(cost_table, "device_name", lambda _: "Abacus 3")
    scores = ep.data_free_scores(parent, ep.Random(0))
    with pytest.raises(
        OutputError, match=r"search on another machine \(device .*; here device Abacus 3, threads \d+\)"
    ):
        searched(parent, labelled, tmp_path, scores=scores)


def begun(parent: ep.Potential, labelled: list[Atoms], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that was interrupted before anything was measured."""

    def stopped(journal: Journal, path: Path) -> None:
        save(journal, path)
        raise KeyboardInterrupt

    save = Journal.save
    with monkeypatch.context() as once:
        once.setattr(Journal, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            searched(parent, labelled, folder, scores=ep.data_free_scores(parent, ep.Random(0)))


def test_memory_and_parameters_are_budgets_too(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path
) -> None:
    limit = 0.85 * peak(parent, WHOLE) / WHOLE * ATOMS
    budget = ep.Budget(memory=limit, atoms=ATOMS, parameters=0.6)
    found = searched(parent, labelled, tmp_path / "search", budget, settings=BRIEF)
    assert found.chosen.measured.parameters <= 0.6
    assert found.journal.overhead is not None
    assert OVERHEAD <= found.journal.overhead <= 1.04 * OVERHEAD
    child = ep.prune(parent, found.plan)
    assert found.chosen.measured.bytes_per_atom == pytest.approx(peak(child, WHOLE) / WHOLE)
    assert peak(child, WHOLE) / WHOLE * ATOMS <= limit
    assert child.parameters(trainable_only=True) / parent.parameters(trainable_only=True) <= 0.6


def test_a_finalist_that_needs_far_more_than_predicted_gives_way_to_smaller_sizes(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 0.85 * peak(parent, WHOLE) / WHOLE * ATOMS
    tried: list[float] = []

    def out_above(child: ep.Potential, _: object, __: int, most: float) -> float | None:
        tried.append(peak(child, WHOLE) / WHOLE * ATOMS)
        return tried[-1] if tried[-1] <= 0.9 * limit else None

    monkeypatch.setattr("equiprune.searching.rounds.peak_of", out_above)
    found = searched(parent, labelled, tmp_path, ep.Budget(memory=limit, atoms=ATOMS), settings=BRIEF)
    assert max(tried) > 0.9 * limit
    assert peak(ep.prune(parent, found.plan), WHOLE) / WHOLE * ATOMS <= 0.9 * limit


def test_what_a_process_takes_more_than_its_tensors_is_measured_once(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = ep.Budget(memory=0.85 * peak(parent, WHOLE), atoms=ATOMS)
    first = searched(parent, labelled, tmp_path / "search", budget, settings=BRIEF)

    def again(*_: object) -> float:
        raise AssertionError("measured again")

    monkeypatch.setattr("equiprune.searching.search.overhead", again)
    assert searched(parent, labelled, tmp_path / "search", budget, settings=BRIEF).plan == first.plan


def test_the_smallest_model_with_an_error_that_is_allowed(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, effort=replace(EFFORT, candidates=4))
    loose = searched(parent, labelled, tmp_path / "loose", ep.Budget(max_force_error=1e6), settings=settings)
    errors = sorted(each.forces for each in loose.journal.finalists)
    allowed = (errors[0] + errors[-1]) / 2
    steps: list[int] = []
    budget, watchers = ep.Budget(max_force_error=allowed), ep.Watchers(progress=steps.append)
    tight = searched(parent, labelled, tmp_path / "tight", budget, settings=settings, watchers=watchers)
    assert sum(steps) == settings.effort.total(budget)
    assert tight.chosen.forces <= allowed
    assert tight.chosen.measured.speed < loose.chosen.measured.speed
    assert "smallest that was found to keep forces within" in tight.reason
    with pytest.raises(TargetError, match="the best reached"):
        searched(parent, labelled, tmp_path / "none", ep.Budget(max_force_error=1e-6), settings=settings)


def test_an_impossible_budget_says_what_is_possible(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path
) -> None:
    with pytest.raises(TargetError) as refused:
        searched(parent, labelled, tmp_path / "search", ep.Budget(faster=100.0))
    assert "No model keeps the budget (at least 100 times as fast). The smallest" in str(refused.value)
    assert "times as fast and has 0." in str(refused.value)


def test_elements_are_cut_where_that_is_asked_for(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path
) -> None:
    constraints = ep.Constraints((ep.Elements.parse("O,Si"),))
    found = searched(parent, labelled, tmp_path / "search", settings=replace(BRIEF, constraints=constraints))
    assert ep.prune(parent, found.plan).architecture.elements == (8, 14)


def test_a_busy_machine_is_named(
    machine: list[str], parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("equiprune.searching.cost_model._spread", lambda _: 0.5)
    settings = replace(SETTINGS, effort=replace(EFFORT, candidates=1, finalists=1, steps=0))
    searched(parent, labelled, tmp_path / "search", settings=settings, watchers=ep.Watchers(note=said.append))
    assert any("The machine is busy: 10 of 10 timings" in line for line in said)
    for told in ("after brief training. Its timings", "measured again. Its timings"):
        assert any(f"{told} vary by 50 %: the machine is busy." in line for line in said)


def test_what_cannot_be_searched_on_is_refused(parent: ep.Potential, labelled: list[Atoms], tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="9 structures are too few for a search"):
        searched(parent, labelled[:9], tmp_path / "search")
    bare = [*labelled[:11], Atoms(labelled[0].numbers, labelled[0].positions)]
    with pytest.raises(StructureError, match="Structure 11 has no labels of forces"):
        searched(parent, bare, tmp_path / "search")
    without = ep.SearchSettings(ep.Constraints((ep.Elements.parse("H,O"),)), EFFORT)
    with pytest.raises(StructureError, match="Si"):
        searched(parent, labelled, tmp_path / "search", settings=without)
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("given", [{"measured": 5}, {"candidates": 0}, {"finalists": 0}, {"steps": -1}])
def test_too_little_effort_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(TargetError, match="is not possible: give"):
        ep.Effort(**given)


def test_a_candidate_is_not_repaired_where_too_few_structures_are_left(
    parent: ep.Potential, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there were too few from the start."""
    plan = ep.allocate(parent, [ep.Channels(4)], ep.data_free_scores(parent, ep.Magnitude()))
    nothing: Any = None  # of how it was found and what it costs
    candidate = Candidate("by hand", nothing, nothing, plan, nothing)
    cut = ep.prune(parent, plan).checkpoint.weights

    def repaired(structures: list[Atoms]) -> bool:
        given: Any = {"parent": parent, "training": structures, "held_out": labelled, "conditions": None, "repeats": 1}
        made = material.Material(**given, recipe=SETTINGS.recipe, effort=EFFORT, folder=tmp_path, seed=0)
        return any(not torch.equal(cut[name], w) for name, w in made.built(candidate).checkpoint.weights.items())

    assert repaired(labelled)
    assert not repaired(labelled[:9])
    monkeypatch.setattr(displacing, "LARGEST_FORCE", 0.0)
    assert not repaired(labelled)
