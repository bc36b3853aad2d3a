"""Radial networks that lost neurons are fitted by themselves."""

from dataclasses import replace

import pytest
import torch
from ase import Atoms

import equiprune as ep
from equiprune.blocks import BlockMask, Irrep, Irreps, PruningPlan
from equiprune.pruning.parent_view import ParentView
from equiprune.pruning.radial_repair import repair_radial_networks

LAYERS = ("radial.0", "radial.1")
SCALAR = Irrep(0, 1)


@pytest.fixture(scope="module")
def parent() -> ep.Potential:
    """A model of eight radial neurons, the last two of which do what the first two do."""
    toy = ep.load("toy", dtype=torch.float64)
    weights = dict(toy.checkpoint.weights)
    for t in (0, 1):
        name = f"radial_{t}_layer0_weight"
        weights[name] = torch.cat([weights[name][:, :6], weights[name][:, :2]], dim=1)
    return ep.Potential.create(toy.adapter, replace(toy.checkpoint, weights=weights), torch.float64)


@pytest.fixture(scope="module")
def structures(parent: ep.Potential) -> list[Atoms]:
    return [atoms for seed in range(4) for atoms in ep.probe_structures(parent.elements, seed).values()]


@pytest.fixture(scope="module")
def view(parent: ep.Potential, structures: list[Atoms]) -> ParentView:
    return ParentView.of(parent, structures)


def keeping(*neurons: int) -> PruningPlan:
    mask = BlockMask.keep(Irreps.scalars(8), {SCALAR: list(neurons)})
    return PruningPlan(dict.fromkeys(LAYERS, mask))


def mended(parent: ep.Potential, view: ParentView, plan: PruningPlan) -> tuple[ep.Potential, ep.Potential, int]:
    """The pruned model, the same with other radial networks, and how many weights changed."""
    child = ep.prune(parent, plan)
    fitted = ep.Potential.create(child.adapter, child.checkpoint, torch.float64)
    return child, fitted, repair_radial_networks(fitted, parent, view.samples, plan)


def off(model: ep.Potential, parent: ep.Potential, structures: list[Atoms]) -> float:
    graph = parent.graph(structures)
    with torch.no_grad():
        return float((model.evaluate(graph).energies - parent.evaluate(graph).energies).abs().max())


def test_neurons_that_others_can_stand_for_are_not_missed(
    parent: ep.Potential, view: ParentView, structures: list[Atoms]
) -> None:
    child, fitted, changed = mended(parent, view, keeping(0, 1, 2, 3, 4, 5))
    assert changed == 2
    assert off(child, parent, structures) > 0.05
    assert off(fitted, parent, structures) < 1e-4


def test_half_of_the_neurons_give_nearly_the_same_function(
    parent: ep.Potential, view: ParentView, structures: list[Atoms]
) -> None:
    child, fitted, _ = mended(parent, view, keeping(0, 2, 4, 5))
    assert off(fitted, parent, structures) < 0.4 * off(child, parent, structures)


def test_networks_that_lost_nothing_stay_as_they_are(parent: ep.Potential, view: ParentView) -> None:
    _, fitted, changed = mended(parent, view, PruningPlan.nothing())
    assert changed == 0
    assert all(torch.equal(p, parent.checkpoint.weights[n]) for n, p in fitted.module.named_parameters())


def test_it_is_a_part_of_the_repair(parent: ep.Potential, view: ParentView, structures: list[Atoms]) -> None:
    child = ep.prune(parent, keeping(0, 1, 2, 3, 4, 5))
    made = ep.repair(child, view)
    assert made.after.forces < 0.01 * made.before.forces


def test_of_many_samples_some_are_looked_at(
    parent: ep.Potential, view: ParentView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equiprune.pruning.radial_repair._SAMPLES", 1)
    twice = replace(view, samples=[*view.samples, *view.samples])
    _, fitted, changed = mended(parent, twice, keeping(0, 1, 2, 3, 4, 5))
    assert changed == 2
    assert off(fitted, parent, list(ep.probe_structures(parent.elements).values())) < 1e-3
