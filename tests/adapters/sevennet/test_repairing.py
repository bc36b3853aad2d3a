"""Pruned SevenNet models are repaired in closed form, also where one of several heads is left."""

import pytest
import torch
from random_models import KINDS, random_checkpoint
from repairing import assert_repaired

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter

pytestmark = pytest.mark.usefixtures("plain_code")  # numbers alone


@pytest.mark.parametrize(
    ("kind", "targets", "head"),
    [
        ("SO(3), linear self-connection", [ep.Channels(4)], None),
        ("O(3), tensor-product self-connection, biases", [ep.Channels(4)], None),
        ("three heads everywhere, global l > 0 in the last features", [ep.Channels(4), ep.Heads(("b",))], "b"),
    ],
)
def test_a_pruned_model_is_repaired(kind: str, targets: list, head: str | None) -> None:
    parent = ep.Potential.create(SevenNetAdapter(), random_checkpoint(KINDS[kind]), torch.float64, head)
    child = ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Random(0))))
    structures = [atoms for seed in range(5) for atoms in ep.probe_structures(parent.elements, seed).values()]
    assert_repaired(parent, child, structures)
