"""Heads are removed exactly, alone and after other changes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_mace import KINDS, random_checkpoint

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.testing import assert_same_predictions
from equiprune.training.optimisation import Optimisation

pytestmark = pytest.mark.usefixtures("plain_code")


@pytest.fixture(scope="module")
def parent() -> ep.Potential:
    """A model of two heads that differ in their readouts and constants."""
    checkpoint = replace(random_checkpoint(KINDS["density, ZBL, Agnesi, two heads, max_ell 3"]), sha256="parent")
    return ep.Potential.create(MaceAdapter(), checkpoint, torch.float64, "pbe")


@pytest.mark.parametrize("head", ["pbe", "r2scan"])
@pytest.mark.supports("MACE of several heads (random weights)", "exact")
def test_a_single_head_is_an_ordinary_model_that_predicts_the_same(parent: ep.Potential, head: str) -> None:
    child = ep.prune(parent, ep.allocate(parent, [ep.Heads((head,))]))
    assert child.architecture.heads == ()
    assert child.architecture.head_name == head
    structures = list(ep.probe_structures(parent.elements).values())
    assert_same_predictions(replace(parent, head=head), child, structures)


@pytest.mark.supports("MACE of several heads (random weights)", "trains")
def test_one_of_two_heads_learns_what_the_other_says(parent: ep.Potential, tmp_path: Path) -> None:
    """Its own error becomes smaller, and both heads are there afterwards."""
    other, structures = replace(parent, head="r2scan"), list(ep.probe_structures(parent.elements).values())
    labelled = list(ep.label(other, structures[:2]))
    objective = ep.PRESETS["mace-universal"].objective
    recipe = ep.Recipe(objective, Optimisation(3e-3, average=None), epochs=3, batch_size=2)
    trained = ep.train(parent, labelled, recipe, tmp_path / "run")
    assert (trained.architecture, trained.head) == (parent.architecture, "pbe")
    before, after = ep.evaluate({"before": parent, "after": trained}, labelled)
    assert after.mae("forces") < before.mae("forces")
    assert trained.module.state_dict().keys() == parent.module.state_dict().keys()
    assert [p.energy.isfinite() for p in replace(trained, head="r2scan").predict(structures)] == [True] * 4


def test_heads_can_change_their_order(parent: ep.Potential) -> None:
    child = ep.prune(parent, ep.allocate(parent, [ep.Heads(("r2scan", "pbe"))]))
    structures = list(ep.probe_structures(parent.elements).values())
    for head in ("pbe", "r2scan"):
        assert_same_predictions(replace(parent, head=head), replace(child, head=head), structures)


def test_certificates_follow_the_head_that_is_left_through_growth(parent: ep.Potential) -> None:
    """The head goes after the model has grown: the comparison must be with that head from the start."""
    grown = ep.grow(parent, ep.GrowRadialBasis(8))
    child = ep.prune(grown, ep.allocate(grown, [ep.Heads(("r2scan",))]))
    certificate = ep.certify(child, parent, nve_steps=1)
    assert certificate.passed, certificate.values
    assert certificate.values["masked_vs_sliced.energy"] < 1e-10
