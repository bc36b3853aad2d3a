"""Heads are removed exactly, alone and after other changes."""

from dataclasses import replace

import pytest
import torch
from random_mace import KINDS, random_checkpoint

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.testing import assert_same_predictions

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
