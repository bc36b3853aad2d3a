"""A pruned SevenNet in torch-sim; needs its package (the extra ``torch-sim``)."""

import pytest
import torch
from in_torch_sim import check_in_torch_sim
from random_models import architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter


@pytest.mark.usefixtures("plain_code")
def test_a_child_gives_the_same_numbers_and_moves() -> None:
    parent = ep.Potential.create(SevenNetAdapter(), random_checkpoint(architecture()), torch.float64)
    child = ep.prune(parent, ep.allocate(parent, [ep.Lmax(1)]))
    check_in_torch_sim(child, list(ep.probe_structures(child.elements).values())[:3])
