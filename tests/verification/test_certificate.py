"""A certificate passes for an honest child and fails for every kind of dishonest one."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import equiprune as ep
from equiprune.adapters import Outputs, Taps
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.errors import PlanError
from equiprune.testing import random_plan
from equiprune.verification.certificate import CHECKS, LIMITS
from equiprune.verification.lineage import lineage


@pytest.fixture(scope="module")
def child(toy_parent: ep.Potential) -> ep.Potential:
    """A pruned model."""
    return ep.prune(toy_parent, random_plan(toy_parent, np.random.default_rng(7)))


def with_weights(potential: ep.Potential, **weights: Tensor) -> ep.Potential:
    checkpoint = replace(potential.checkpoint, weights={**potential.checkpoint.weights, **weights})
    return ep.Potential.create(potential.adapter, checkpoint, potential.dtype)


def failed(certificate: ep.Certificate) -> set[str]:
    return {name for name, value in certificate.values.items() if not value <= LIMITS[name]}


@pytest.mark.slow
def test_an_honest_child_passes_everything(child: ep.Potential, toy_parent: ep.Potential) -> None:
    done: list[int] = []
    certificate = ep.certify(child, toy_parent, nve_steps=5, progress=done.append)
    assert certificate.passed
    assert certificate.values.keys() == LIMITS.keys() - {"rotations.of_parent"}  # of models that need a grid
    assert sum(done) == CHECKS


@pytest.mark.slow
def test_a_grandchild_passes_too(child: ep.Potential, toy_parent: ep.Potential) -> None:
    grandchild = ep.prune(child, random_plan(child, np.random.default_rng(8)))
    assert not failed(ep.certify(grandchild, toy_parent, nve_steps=1))
    assert not failed(ep.certify(grandchild, child, nve_steps=1))


def test_children_of_unsaved_models_are_told_apart_by_their_steps(toy: ep.Potential) -> None:
    """An unsaved model has no sha256; how many steps it is old says which one it is."""
    first = random_plan(toy, np.random.default_rng(1))
    once = ep.prune(toy, first)
    second = random_plan(once, np.random.default_rng(2))
    twice = ep.prune(once, second)
    assert lineage(twice, toy).steps == ((first, torch.float64), (second, torch.float64))
    assert lineage(twice, once).steps == ((second, torch.float64),)


@pytest.mark.parametrize("missing", ["step", "dtype", "plan"])
def test_a_damaged_history_is_named(child: ep.Potential, toy_parent: ep.Potential, missing: str) -> None:
    [step] = child.checkpoint.history
    history = ({key: value for key, value in step.items() if key != missing},)
    broken = replace(child, checkpoint=replace(child.checkpoint, history=history))
    with pytest.raises(PlanError, match=r"history .* is damaged"):
        lineage(broken, toy_parent)


def test_without_a_parent_only_physics_is_claimed(child: ep.Potential) -> None:
    certificate = ep.certify(child, nve_steps=1)
    assert certificate.passed
    of_the_parent = ("masked", "stored", "rotations")
    assert certificate.values.keys() == {name for name in LIMITS if not name.startswith(of_the_parent)}


@pytest.mark.slow
@pytest.mark.parametrize("change", [1e-3, float("nan"), float("inf")])
def test_one_changed_weight_fails(child: ep.Potential, toy_parent: ep.Potential, change: float) -> None:
    for name in ("embedding_weight", "shift"):
        weight = child.checkpoint.weights[name].clone()
        weight[-1] += change
        assert "stored_weights" in failed(ep.certify(with_weights(child, **{name: weight}), toy_parent, nve_steps=1))


@pytest.mark.slow
def test_a_changed_hyperparameter_fails(child: ep.Potential, toy_parent: ep.Potential) -> None:
    architecture = replace(child.architecture, cutoff=child.architecture.cutoff + 0.01)
    checkpoint = replace(child.checkpoint, architecture=architecture)
    tampered = ep.Potential.create(child.adapter, checkpoint, child.dtype)
    assert failed(ep.certify(tampered, toy_parent, nve_steps=1)) == {"stored_weights"}


class Tampered(ToyAdapter):
    """A toy whose energy has something added."""

    def __init__(self, extra: Any) -> None:
        self.extra = extra

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        outputs = super().evaluate(module, architecture, graph, head, taps)
        return replace(outputs, energies=outputs.energies + self.extra(graph))


def per_structure(graph: ep.AtomicGraph, values: Tensor) -> Tensor:
    return torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_atom, values)


def anisotropic(graph: ep.AtomicGraph) -> Tensor:
    lengths = graph.edge_vectors()[:, 0].square()
    return 1e-3 * torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_edge, lengths)


def detached(graph: ep.AtomicGraph) -> Tensor:
    """Energy that forces do not see."""
    lengths = graph.edge_vectors().norm(dim=1).detach()
    return 1e-2 * torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_edge, lengths)


def jump(graph: ep.AtomicGraph) -> Tensor:
    """An energy per neighbour: it jumps where one enters the cutoff."""
    ones = 1e-3 * torch.ones_like(graph.shifts[:, 0])
    return torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_edge, ones)


DISHONEST = {
    "an absolute position": (lambda g: 1e-3 * per_structure(g, g.positions[:, 0]), "equivariance.energy"),
    "a preferred direction": (anisotropic, "equivariance.energy"),
    "energy that forces do not see": (detached, "finite_difference.forces"),
    "energy that the stress does not see": (detached, "finite_difference.stress"),
    "a jump at the cutoff": (jump, "smoothness.energy"),
    "an energy of the whole batch": (
        lambda g: 1e-3 * len(g.numbers) + g.strain[:, 0, 0] * 0,
        "batch_independence.energy",
    ),
    "not a number": (lambda g: g.strain[:, 0, 0] * float("nan"), "equivariance.energy"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "check"), DISHONEST.values(), ids=DISHONEST)
def test_physics_that_is_wrong_fails(toy: ep.Potential, extra: Any, check: str) -> None:
    certificate = ep.certify(replace(toy, adapter=Tampered(extra)), nve_steps=1)
    assert check in failed(certificate)
    assert not certificate.passed


class Handed(ToyArchitecture):
    """A toy that does not claim inversion."""

    @property
    def inversion(self) -> bool:
        return False


def chiral(graph: ep.AtomicGraph) -> Tensor:
    """A triple product of edge vectors: it turns with the structure and changes sign under inversion."""
    vectors = graph.edge_vectors()
    length = vectors.norm(dim=1, keepdim=True)
    a, b, c = (
        torch.zeros_like(graph.positions).index_add(0, graph.edge_index[0], vectors / length**n) for n in (1, 2, 3)
    )
    return per_structure(graph, (torch.linalg.cross(a, b) * c).sum(-1))


@pytest.mark.slow
def test_handedness_fails_only_where_inversion_is_claimed(toy: ep.Potential) -> None:
    tampered = replace(toy, adapter=Tampered(chiral))
    assert "equivariance.energy" in failed(ep.certify(tampered, nve_steps=1))
    checkpoint = replace(toy.checkpoint, architecture=Handed(**asdict(toy.architecture)))
    handed = ep.certify(replace(tampered, checkpoint=checkpoint), nve_steps=1)
    assert "equivariance.energy" not in failed(handed)


@pytest.mark.slow
def test_energy_that_forces_do_not_see_drifts(toy: ep.Potential) -> None:
    certificate = ep.certify(replace(toy, adapter=Tampered(lambda g: 100 * detached(g))), nve_steps=20)
    assert "nve.drift" in failed(certificate)


def test_a_child_of_another_parent_is_refused(child: ep.Potential, toy: ep.Potential) -> None:
    with pytest.raises(PlanError, match="was not pruned from"):
        ep.certify(child, toy)
    with pytest.raises(PlanError, match="was not pruned from"):
        ep.certify(toy, toy)


def test_a_model_trained_since_is_not_compared(child: ep.Potential, toy_parent: ep.Potential) -> None:
    history = (*child.checkpoint.history, {"step": "train", "parent_sha256": ""})
    trained = replace(child, checkpoint=replace(child.checkpoint, history=history))
    certificate = ep.certify(trained, toy_parent, nve_steps=1)
    assert not any(name.startswith(("masked", "stored")) for name in certificate.values)
    assert any("trained after pruning" in note for note in certificate.notes)


@pytest.mark.slow
def test_json_is_nested_and_says_what_was_allowed(child: ep.Potential, toy_parent: ep.Potential) -> None:
    value = ep.certify(child, toy_parent, nve_steps=1).to_json()
    assert value["masked_vs_sliced"].keys() == {"energy", "forces", "stress"}
    assert value["equivariance"].keys() == {"energy", "forces"}
    assert value["finite_difference"]["forces"] <= value["limits"]["finite_difference.forces"]
    assert value["stored_weights"] == 0
    assert value["passed"] is True
    assert value["parent_sha256"] == toy_parent.checkpoint.sha256
    assert value["licence"] == "MIT"


def test_markdown_shows_every_value_and_which_one_failed(child: ep.Potential) -> None:
    honest = ep.certify(child, nve_steps=1)
    assert "**Passed**" in honest.to_markdown()
    page = replace(honest, values={**honest.values, "nve.drift": float("nan")}).to_markdown()
    assert "**FAILED**" in page
    assert all(name in page for name in honest.values)
    assert page.count("**fails**") == 1
