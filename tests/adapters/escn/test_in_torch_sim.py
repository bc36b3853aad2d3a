"""A pruned eSCN, which has no stress, in torch-sim; needs its package (the extra ``torch-sim``)."""

import torch
from in_torch_sim import check_in_torch_sim
from random_escn import random_checkpoint, small

import equiprune as ep
from equiprune.adapters.escn import EscnAdapter


def test_a_child_gives_the_same_numbers_and_moves() -> None:
    parent = ep.Potential.create(EscnAdapter(), random_checkpoint(small(lmax=3, channels=4)), torch.float64)
    child = ep.prune(parent, ep.allocate(parent, [ep.Lmax(2)]))
    check_in_torch_sim(child, list(ep.probe_structures(child.elements).values())[:3])
