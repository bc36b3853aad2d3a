"""Features of a parent as labels of its child: the places that pruning kept, learnt together or block by block."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from feature_loss import ALONE, BLOCKS, assert_features_are_learnt, feature_loss
from runs import RECIPE, bare, batch, labelled, parent, signalled, student

import equiprune as ep
from equiprune.adapters.history import Grown
from equiprune.blocks import BlockMask, Role
from equiprune.errors import OutputError, TargetError
from equiprune.files.settings import from_json, to_json
from equiprune.potentials.potential import Potential
from equiprune.training.arguments import TrainingData, Watchers
from equiprune.training.feature_labels import FeatureTeacher
from equiprune.training.objective import FeatureTerm, Objective, mace_universal
from equiprune.training.recipe import Recipe
from equiprune.training.signals import StoppedError


def loss(child: Potential, objective: Objective = ALONE) -> float:
    return feature_loss(parent(), child, labelled(), objective)


def only_last(channels: int) -> Potential:
    """A child of which nothing was cut but channels of the last features, which nothing before depends on."""
    space = parent().spaces[[s.name for s in parent().spaces].index("node_feats.2")]
    mask = BlockMask.keep(space.irreps, {ir: range(min(mul, channels)) for mul, ir in space.irreps})
    return ep.prune(parent(), ep.PruningPlan({space.name: mask}))


def train(folder: Path, objective: Objective, start: Potential | None = None, **more: object) -> Potential:
    recipe = replace(RECIPE, objective=objective)
    data = TrainingData(more.pop("structures", labelled()), parent=more.pop("parent", parent()))  # type: ignore[arg-type]
    return ep.train(start or student(), data, recipe, folder, **more)  # type: ignore[arg-type]


def test_labels_are_what_the_parent_has_in_the_kept_places() -> None:
    """Compared with features as scoring sees them, cut by the masks of the plan."""
    child = student()
    plan = ep.PruningPlan.from_json(child.checkpoint.history[-1]["plan"])
    graph = parent().graph(labelled())
    labels = FeatureTeacher.of(parent(), child, labelled()).labels(graph)
    names = [space.name for space in child.spaces if space.role == Role.NODE_FEATS]
    seen = parent().differentiate(graph, names).features
    assert sorted(labels.values) == sorted(names)
    for space in parent().spaces:
        if space.name in names:
            expected = plan.mask(space).select(seen[space.name].value)
            torch.testing.assert_close(labels.values[space.name], expected, rtol=0, atol=0)
            assert labels.size[space.name] == pytest.approx(float(expected.square().mean().sqrt()), rel=1e-9)


def test_a_child_that_lost_nothing_before_has_its_parents_features() -> None:
    assert loss(only_last(4)) < 1e-25
    assert loss(student()) > 1e-3


@pytest.mark.slow
def test_pruned_twice_or_trained_between_the_places_are_still_known(tmp_path: Path) -> None:
    once = student()
    trained = train(tmp_path / "run", ALONE, once)
    twice = ep.prune(trained, ep.allocate(trained, [ep.Channels(2)], ep.data_free_scores(trained, ep.Random(2))))
    first, second = (ep.PruningPlan.from_json(twice.checkpoint.history[i]["plan"]) for i in (0, 2))
    columns = FeatureTeacher.of(parent(), twice, labelled()).columns
    for space in parent().spaces:
        if space.role == Role.NODE_FEATS:
            assert tuple(columns[space.name].tolist()) == first.then(second).mask(space).columns()
    assert FeatureTeacher.of(once, twice, labelled()).columns.keys() == columns.keys()


def test_the_term_is_relative_to_the_size_of_each_space() -> None:
    child = student()
    teacher = FeatureTeacher.of(parent(), child, labelled())
    data = batch(child, labelled())
    labels = teacher.labels(data.graph)
    own = child.differentiate(data.graph, tuple(teacher.columns)).features
    parts = [
        np.square((own[n].value - v).numpy()).mean() / np.square(v.numpy()).mean() for n, v in labels.values.items()
    ]
    assert loss(child) == pytest.approx(np.mean(parts), rel=1e-9)


@pytest.mark.slow
def test_learnt_without_labels_and_without_forces(tmp_path: Path) -> None:
    start, structures = student(), [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in labelled()]
    trained = train(tmp_path / "run", ALONE, structures=structures)
    assert loss(trained) < 0.7 * loss(start)
    first, *_ = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    assert "train_features" in first
    assert not start.for_training(derived=False).derived


def test_block_by_block_no_interaction_depends_on_the_one_before() -> None:
    child = student()
    teacher = FeatureTeacher.of(parent(), child, labelled())
    graph = child.graph(labelled())
    labels, vectors = teacher.labels(graph), graph.positions.new_zeros(0, len(graph.positions), 3)
    names = tuple(teacher.columns)

    def last(potential: Potential, given: dict[str, torch.Tensor]) -> torch.Tensor:
        return potential.for_training(names, derived=False)(graph, vectors, given)["node_feats.2"].detach()

    weights = {n: w + (0.1 if n.startswith("linear_down_0") else 0.0) for n, w in child.checkpoint.weights.items()}
    other = Potential.create(child.adapter, replace(child.checkpoint, weights=weights), child.dtype)
    given = dict(labels.values)
    torch.testing.assert_close(last(child, given), last(other, given), rtol=0, atol=0)
    assert not torch.allclose(last(child, {}), last(other, {}))


@pytest.mark.slow
def test_both_ways_are_learnt(tmp_path: Path) -> None:
    assert_features_are_learnt(parent(), student(), labelled(), tmp_path)


@pytest.mark.slow
def test_block_by_block_is_learnt_too(tmp_path: Path) -> None:
    trained = train(tmp_path / "run", BLOCKS)
    assert loss(trained, BLOCKS) < 0.7 * loss(student(), BLOCKS)
    assert loss(trained) < loss(student())


@pytest.mark.slow
def test_together_with_labels_every_term_is_recorded_and_validated(tmp_path: Path) -> None:
    objective = replace(mace_universal(), features=FeatureTerm(0.1))
    recipe = replace(RECIPE, objective=objective)
    data = TrainingData(labelled(), labelled(1)[:4], parent=parent())
    trained = ep.train(student(), data, recipe, tmp_path / "run")
    first, *rows = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    at = first.split(",").index("validation_features")
    assert {row.split(",")[at] != "" for row in rows} == {True, False}
    step = trained.checkpoint.history[-1]
    assert step["data"]["parent"] == parent().checkpoint.sha256
    assert from_json(step["recipe"]).objective == objective


def test_a_run_without_the_term_does_not_know_of_it() -> None:
    assert "features" not in to_json(mace_universal())
    weighed = replace(mace_universal(), features=FeatureTerm(0.5, block_by_block=True))
    assert from_json(to_json(weighed)) == weighed


@pytest.mark.slow
def test_stopped_and_resumed_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    objective = replace(mace_universal(), features=FeatureTerm(0.1))
    once = student()
    twice = ep.prune(once, ep.allocate(once, [ep.Channels(2)], ep.data_free_scores(once, ep.Random(2))))
    through = train(tmp_path / "through", objective, twice)
    with pytest.raises(StoppedError):
        train(tmp_path / "stopped", objective, twice, watchers=Watchers(progress=signalled(5, 2)))
    resumed = train(tmp_path / "stopped", objective, twice)
    for name, weight in through.checkpoint.weights.items():
        assert torch.equal(weight, resumed.checkpoint.weights[name])
    with pytest.raises(OutputError, match=r"different: data"):
        train(tmp_path / "stopped", objective, twice, parent=once)


def test_a_model_that_is_not_the_parent_is_refused(tmp_path: Path) -> None:
    stranger = ep.from_scratch(parent(), 3)
    with pytest.raises(TargetError, match=r"is not the model that .* was pruned from"):
        train(tmp_path / "a", ALONE, parent=stranger)
    with pytest.raises(TargetError, match=r"it was not pruned at all"):
        train(tmp_path / "b", ALONE, start=stranger, parent=student())
    with pytest.raises(TargetError, match=r"drawn anew"):
        train(tmp_path / "b", ALONE, start=ep.from_scratch(student(), 3))
    with pytest.raises(TargetError, match=r"is not the model"):
        train(tmp_path / "c", ALONE, start=parent(), parent=student())
    assert not list(tmp_path.iterdir())


def test_a_child_that_has_grown_is_refused() -> None:
    child = student()
    record = {"step": Grown.name, "parent": "", "parent_sha256": ""}
    grown = replace(child, checkpoint=replace(child.checkpoint, history=(*child.checkpoint.history, record)))
    with pytest.raises(TargetError, match=r"has grown since"):
        FeatureTeacher.of(parent(), grown, labelled())


@pytest.mark.parametrize("given", [True, False])
def test_weight_and_parent_need_each_other(tmp_path: Path, *, given: bool) -> None:
    objective = mace_universal() if given else ALONE
    with pytest.raises(TargetError, match=r"Features are labels of a `parent`"):
        train(tmp_path / "run", objective, parent=parent() if given else None)


def test_unlabelled_structures_are_enough_but_there_must_be_some(tmp_path: Path) -> None:
    recipe = Recipe(ALONE, RECIPE.optimisation, epochs=1, batch_size=4)
    trained = ep.train(student(), TrainingData(bare(4), parent=parent()), recipe, tmp_path / "run")
    assert loss(trained) < loss(student())
    with pytest.raises(TargetError, match=r"weight of -1"):
        FeatureTerm(-1.0)
