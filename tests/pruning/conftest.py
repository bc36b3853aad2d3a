"""A model to repair, and its parent."""

import pytest
import torch

import equiprune as ep


@pytest.fixture(scope="module")
def parent() -> ep.Potential:
    return ep.load("toy", dtype=torch.float64)


@pytest.fixture(scope="module")
def child(parent: ep.Potential) -> ep.Potential:
    """Four channels of each, drawn at random."""
    return ep.prune(parent, ep.allocate(parent, [ep.Channels(4)], ep.data_free_scores(parent, ep.Random(0))))
