"""A pruned MACE-MP-0 small is repaired in closed form."""

from pathlib import Path

import pytest
import torch
from repairing import assert_repaired

import equiprune as ep


@pytest.mark.usefixtures("plain_code")  # numbers alone
def test_a_pruned_model_is_repaired(official: Path) -> None:
    """Half of the channels of a model for six elements."""
    parent = ep.load(official, dtype=torch.float64)
    targets = [ep.Channels(64), ep.Elements((1, 8, 11, 14, 17, 29))]
    child = ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Magnitude())))
    structures = [atoms for seed in range(6) for atoms in ep.probe_structures(child.elements, seed).values()]
    assert_repaired(parent, child, structures)
