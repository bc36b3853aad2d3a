"""Pruned MACE models are repaired in closed form."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_mace import random_checkpoint, stock
from repairing import assert_repaired

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.blocks import BlockMask, Irrep, PruningPlan
from equiprune.pruning.parent_view import ParentView
from equiprune.pruning.rotation import rotated, spreads


@pytest.mark.usefixtures("plain_code")  # numbers alone
def test_a_pruned_model_is_repaired(official: Path) -> None:
    """Half of the channels of a model for six elements."""
    parent = ep.load(official, dtype=torch.float64)
    targets = [ep.Channels(64), ep.Elements((1, 8, 11, 14, 17, 29))]
    child = ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Magnitude())))
    structures = [atoms for seed in range(6) for atoms in ep.probe_structures(child.elements, seed).values()]
    assert_repaired(parent, child, structures)


@pytest.mark.usefixtures("plain_code")
@pytest.mark.parametrize(("channels", "exact"), [(6, True), (4, False)])
def test_features_that_linear_maps_read_need_as_many_channels_as_these_tell_apart(channels: int, exact: bool) -> None:
    """Six elements, of which each has a map of its own, and five neurons of the readout: of twelve channels, six do."""
    parent = ep.Potential.create(MaceAdapter(), random_checkpoint(stock(channels=12)), torch.float64)
    irreps = {space.name: space.irreps for space in parent.spaces}
    some = {Irrep(0, 1): list(range(channels))}
    plan = PruningPlan({name: BlockMask.keep(irreps[name], some) for name in ("node_feats.0", "node_feats.2")})
    child = ep.prune(parent, plan)
    structures = [atoms for seed in range(3) for atoms in ep.probe_structures(parent.elements, seed).values()]
    turned = rotated(child, parent, plan, spreads(ParentView.of(parent, structures, gains=False)))
    made = ep.Potential.create(child.adapter, replace(child.checkpoint, weights=turned.weights), torch.float64)
    right, sliced, found = (model.energies(parent.graph(structures)) for model in (parent, child, made))
    scale = (sliced - right).abs().max()
    assert scale > 1e-3
    assert ((found - right).abs().max() < 1e-9 * scale) == exact
    assert any(name.endswith("skip_tp.weight") for name in turned.settled)
