"""Rewriting SevenNet's readout alone: upstream builds no model of it, so its two linear maps are multiplied here."""

from collections.abc import Mapping

import pytest
import torch
from random_models import architecture, random_checkpoint
from torch import Tensor

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.adapters.sevennet.architecture import SevenNetArchitecture
from equiprune.adapters.sevennet.layouts import weight_layouts

pytestmark = pytest.mark.usefixtures("plain_code")

FIRST, SECOND = "reduce_input_to_hidden.linear", "reduce_hidden_to_energy.linear"


def product(arch: SevenNetArchitecture, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the readout multiplies features with, and what it adds."""
    layouts = weight_layouts(arch)

    def matrix(name: str) -> Tensor:
        [path] = layouts[f"{name}.weight"].paths
        return layouts[f"{name}.weight"].split(weights[f"{name}.weight"])[path.key] * path.scale

    into, out = matrix(FIRST), matrix(SECOND)
    constant = weights[f"{FIRST}.bias"] @ out + weights[f"{SECOND}.bias"] if arch.bias else torch.zeros(1)
    return into @ out, constant


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kept", [(0, 2, 3, 4), (2, 3)])
def test_refactorising_a_readout_leaves_its_product(kept: tuple[int, ...], bias: bool) -> None:
    arch = architecture(bias=bias)
    weights = random_checkpoint(arch).weights
    plan = ep.PruningPlan({"node_feats.3": ep.BlockMask(ep.Irreps.scalars(5), (kept,))})
    changed, rewritten = SevenNetAdapter().rewrite_for_plan(arch, weights, plan)
    assert changed.readout_width == len(kept) // 2
    for before, after in zip(product(arch, weights), product(changed, rewritten), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-13)
