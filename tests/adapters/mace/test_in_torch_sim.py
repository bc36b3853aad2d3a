"""A pruned MACE in torch-sim as equiprune evaluates it; needs its package (the extra ``torch-sim``)."""

import pytest
import torch
from in_torch_sim import check_in_torch_sim
from random_mace import random_checkpoint, stock

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter


@pytest.mark.usefixtures("plain_code")
def test_a_child_gives_the_same_numbers_and_moves() -> None:
    parent = ep.Potential.create(MaceAdapter(), random_checkpoint(stock()), torch.float64)
    child = ep.prune(parent, ep.allocate(parent, [ep.Lmax(0)]))
    check_in_torch_sim(child, list(ep.probe_structures(child.elements).values())[:3])
