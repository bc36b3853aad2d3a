"""The laws of the core on small random SevenNet models of every kind."""

from collections.abc import Iterator, Sequence
from functools import cache

import pytest
import torch
from plain_code import code_for
from random_models import KINDS, architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.adapters.sevennet.architecture import Rescale
from equiprune.testing import AdapterContract, assert_same_predictions

PARENTS: dict[tuple[str, str], ep.Potential] = {}
"""By kind of model and of code; built once, since no law changes them."""


@pytest.fixture(params=KINDS, scope="class")
def kind(request: pytest.FixtureRequest) -> None:
    """Each law on each kind of model."""
    request.cls.kind = request.param


@pytest.fixture(autouse=True)
def code(request: pytest.FixtureRequest) -> Iterator[None]:
    """Stock code only where it matters, since it takes long to build."""
    with code_for(request.function) as TestSevenNet.code:
        yield


@pytest.mark.usefixtures("kind")
class TestSevenNet(AdapterContract):
    adapter = SevenNetAdapter()
    plans = 2
    kind = ""
    code = "stock"

    def checkpoints(self) -> Sequence[Checkpoint]:
        return [_checkpoint(self.kind)]

    def potentials(self) -> Iterator[ep.Potential]:
        made = (self.kind, self.code)
        if made not in PARENTS:
            [PARENTS[made]] = super().potentials()
        yield PARENTS[made]


@cache
def _checkpoint(kind: str) -> Checkpoint:
    return random_checkpoint(KINDS[kind])


def test_a_single_head_is_taken_out_exactly() -> None:
    """sevenn cannot build a multi-head model with one head: the head becomes biases, and nothing changes."""
    checkpoint = random_checkpoint(KINDS["three heads everywhere, global l > 0 in the last features"])
    for head in checkpoint.architecture.heads:
        parent = ep.Potential.create(SevenNetAdapter(), checkpoint, torch.float64, head)
        child = ep.prune(parent, ep.allocate(parent, [ep.Heads((head,))]))
        assert child.architecture.heads == ()
        assert_same_predictions(parent, child, list(ep.probe_structures(parent.elements).values()))


def test_heads_can_be_reordered_and_dropped_exactly() -> None:
    checkpoint = random_checkpoint(KINDS["three heads everywhere, global l > 0 in the last features"])
    parent = ep.Potential.create(SevenNetAdapter(), checkpoint, torch.float64, "a")
    child = ep.prune(parent, ep.allocate(parent, [ep.Heads(("c", "a"))]))
    assert child.architecture.heads == ("c", "a")
    assert_same_predictions(parent, child, list(ep.probe_structures(parent.elements).values()))


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


def test_fixed_bessel_frequencies_cannot_be_removed() -> None:
    """Upstream recomputes them from their number, so a subset cannot be expressed: there is no such space."""
    checkpoint = random_checkpoint(architecture(radial_basis_trainable=False))
    parent = ep.Potential.create(SevenNetAdapter(), checkpoint, torch.float64)
    with pytest.raises(ep.EquipruneError, match="no radial_basis that can be pruned"):
        ep.allocate(parent, [ep.RadialBasis(3)], ep.data_free_scores(parent, ep.Random(0)))
    assert_same_predictions(
        parent, ep.prune(parent, ep.PruningPlan.nothing()), list(ep.probe_structures(parent.elements).values())
    )
