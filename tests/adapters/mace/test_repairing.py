"""Pruned MACE models are repaired in closed form."""

import pytest
import torch
from random_mace import KINDS, random_checkpoint
from repairing import assert_repaired

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter

pytestmark = pytest.mark.usefixtures("plain_code")  # numbers alone


@pytest.mark.parametrize("kind", ["residual, L=2", "density, ZBL, Agnesi, two heads, max_ell 3"])
def test_a_pruned_model_is_repaired(kind: str) -> None:
    arch = KINDS[kind]
    head = arch.heads[1] if arch.heads else None
    parent = ep.Potential.create(MaceAdapter(), random_checkpoint(arch), torch.float64, head)
    child = ep.prune(parent, ep.allocate(parent, [ep.Channels(3)], ep.data_free_scores(parent, ep.Random(0))))
    structures = [atoms for seed in range(5) for atoms in ep.probe_structures(parent.elements, seed).values()]
    assert_repaired(parent, child, structures)
