"""Pruning a model: a new value, recorded, and rounded once. That it is exact is in the adapter contract."""

import numpy as np
import pytest
import torch
from broken_adapters import HEADED, Headed

import equiprune as ep
from equiprune.errors import PlanError
from equiprune.testing import random_plan


@pytest.fixture
def plan(toy: ep.Potential) -> ep.PruningPlan:
    return random_plan(toy, np.random.default_rng(0))


def test_the_parent_is_left_alone(toy: ep.Potential, plan: ep.PruningPlan) -> None:
    weights = {name: weight.clone() for name, weight in toy.checkpoint.weights.items()}
    state = {name: weight.clone() for name, weight in toy.module.state_dict().items()}
    ep.prune(toy, plan)
    assert all(torch.equal(toy.checkpoint.weights[name], weight) for name, weight in weights.items())
    assert all(torch.equal(toy.module.state_dict()[name], weight) for name, weight in state.items())


def test_float32_weights_are_the_exact_ones_rounded_once(toy: ep.Potential, plan: ep.PruningPlan) -> None:
    exact = ep.prune(toy, plan).checkpoint.weights
    single = ep.prune(toy.with_dtype(torch.float32), plan).checkpoint.weights
    assert all(torch.equal(weight, exact[name].float()) for name, weight in single.items())


def test_each_step_is_recorded(toy_parent: ep.Potential, plan: ep.PruningPlan) -> None:
    child = ep.prune(toy_parent, plan, note={"targets": "half"})
    grandchild = ep.prune(child, random_plan(child, np.random.default_rng(1)))
    first, second = grandchild.checkpoint.history
    assert first["step"] == second["step"] == "prune"
    assert first["targets"] == "half"
    assert first["parent_sha256"] == toy_parent.checkpoint.sha256
    assert ep.PruningPlan.from_json(first["plan"]) == plan
    assert child.checkpoint.licence == toy_parent.checkpoint.licence
    assert child.checkpoint.sha256 == ""


def test_a_plan_of_another_model_is_refused(toy: ep.Potential, single: ep.Potential) -> None:
    with pytest.raises(PlanError, match="no space"):
        ep.prune(single, ep.PruningPlan({"node_feats.2": ep.BlockMask.keep(ep.Irreps.parse("5x0e"), {})}))
    with pytest.raises(PlanError, match="the model has"):
        ep.prune(toy, ep.PruningPlan({"node_feats.0": ep.BlockMask.keep(ep.Irreps.parse("3x0e"), {})}))


def test_what_the_architecture_cannot_express_is_refused(toy: ep.Potential) -> None:
    only_vectors = ep.BlockMask.keep(ep.Irreps.parse("1x0e+1x1o"), {ep.Irrep(1, -1): [0]})
    with pytest.raises(PlanError):
        ep.prune(toy, ep.PruningPlan({"edge_attrs": only_vectors}))


def test_the_chosen_head_stays_where_it_is_left() -> None:
    potential = ep.Potential.create(Headed(), HEADED, torch.float64, "b")
    left = {kept: ep.BlockMask(ep.Irreps.scalars(3), (kept,)) for kept in ((1, 2), (2, 0))}
    heads = {kept: ep.prune(potential, ep.PruningPlan({"heads": mask})).head for kept, mask in left.items()}
    assert heads == {(1, 2): "b", (2, 0): "c"}
    assert ep.prune(potential, ep.PruningPlan.nothing()).head == "b"
