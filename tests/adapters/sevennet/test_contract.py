"""The laws of the core on small random SevenNet models of every kind."""

from collections.abc import Iterator

import pytest
import torch
from contract_of_kinds import ContractOfKinds
from plain_code import plain
from random_models import KINDS, architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.adapters.sevennet.architecture import Rescale
from equiprune.testing import assert_same_predictions

PLAINLY = pytest.mark.usefixtures("plainly")


@pytest.fixture(params=KINDS, scope="class")
def kind(request: pytest.FixtureRequest) -> None:
    """Each law on each kind of model."""
    request.cls.kind = request.param


@pytest.fixture
def plainly() -> Iterator[None]:
    """Plain code for one test."""
    with plain():
        yield


@pytest.mark.usefixtures("kind")
class TestSevenNet(ContractOfKinds):
    adapter = SevenNetAdapter()
    kinds = KINDS
    random_checkpoint = staticmethod(random_checkpoint)
    plans = 2


@PLAINLY
def test_a_single_head_is_taken_out_exactly() -> None:
    """sevenn cannot build a multi-head model with one head: the head becomes biases, and nothing changes."""
    checkpoint = random_checkpoint(KINDS["three heads everywhere, global l > 0 in the last features"])
    for head in checkpoint.architecture.heads:
        parent = ep.Potential.create(SevenNetAdapter(), checkpoint, torch.float64, head)
        child = ep.prune(parent, ep.allocate(parent, [ep.Heads((head,))]))
        assert child.architecture.heads == ()
        assert_same_predictions(parent, child, list(ep.probe_structures(parent.elements).values()))


@PLAINLY
def test_heads_can_be_reordered_and_dropped_exactly() -> None:
    checkpoint = random_checkpoint(KINDS["three heads everywhere, global l > 0 in the last features"])
    parent = ep.Potential.create(SevenNetAdapter(), checkpoint, torch.float64, "a")
    child = ep.prune(parent, ep.allocate(parent, [ep.Heads(("c", "a"))]))
    assert child.architecture.heads == ("c", "a")
    assert_same_predictions(parent, child, list(ep.probe_structures(parent.elements).values()))


@PLAINLY
@pytest.mark.parametrize(
    "changes",
    [
        {"rescale": Rescale.GLOBAL},
        {"act_radial": "sigmoid"},
        {"radial_widths": (9,)},
        {"train_rescale": True},
        {"radial_basis_trainable": False},
    ],
    ids=str,
)
def test_rarer_settings_are_exact_too(changes: dict) -> None:
    parent = ep.Potential.create(SevenNetAdapter(), random_checkpoint(architecture(**changes)), torch.float64)
    scores = ep.data_free_scores(parent, ep.Random(1))
    plan = ep.allocate(parent, [ep.HiddenIrreps.parse("4x0e+2x1e"), ep.RadialWidth((5,))], scores)
    assert_same_predictions(
        ep.masked(parent, plan), ep.prune(parent, plan), list(ep.probe_structures(parent.elements).values())
    )


@PLAINLY
def test_fixed_bessel_frequencies_cannot_be_removed() -> None:
    """Upstream recomputes them from their number, so a subset cannot be expressed: there is no such space."""
    checkpoint = random_checkpoint(architecture(radial_basis_trainable=False))
    parent = ep.Potential.create(SevenNetAdapter(), checkpoint, torch.float64)
    with pytest.raises(ep.EquipruneError, match="no radial_basis that can be pruned"):
        ep.allocate(parent, [ep.RadialBasis(3)], ep.data_free_scores(parent, ep.Random(0)))
    assert_same_predictions(
        parent, ep.prune(parent, ep.PruningPlan.nothing()), list(ep.probe_structures(parent.elements).values())
    )
