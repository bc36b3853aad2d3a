"""Candidates that a search makes of MACE models, before anything is built."""

from pathlib import Path

import pytest
import torch
from random_mace import random_checkpoint, stock
from searching_for import candidates

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.blocks import Irreps
from equiprune.pruning.targets import Target


@pytest.mark.usefixtures("plain_code")  # numbers alone
def test_every_shape_has_candidates_that_keep_the_budget(official: Path) -> None:
    """Upstream has one number of channels: even widths and those by importance are the same."""
    found = candidates(ep.load(official), 0.4)
    assert {(), (ep.EdgeLmax(2),), (ep.Correlation(2),), (ep.EdgeLmax(1), ep.Correlation(2))} <= found.keys()
    for shape in ((), (ep.EdgeLmax(2),), (ep.Correlation(2),)):
        made = found[shape]
        assert len(made) == 2
        assert made[0].predicted.parameters > 0.3


def lmax_of(shape: tuple[Target, ...], kind: type[Target], otherwise: int) -> int:
    return next((target.lmax for target in shape if isinstance(target, kind)), otherwise)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def parent() -> ep.Potential:
    """One with l = 1 in its features and l = 3 in its harmonics."""
    return ep.Potential.create(MaceAdapter(), random_checkpoint(stock(max_ell=3)), torch.float64)


def test_messages_lose_l_of_their_own_where_models_may_be_assembled(parent: ep.Potential) -> None:
    """Fewer l than the harmonics, where features with l = 1 still have a use for these."""
    found = candidates(parent, 0.8, heterogeneous=True)
    own = {shape: made for shape, made in found.items() if any(isinstance(t, ep.BasisLmax) for t in shape)}
    assert {(ep.BasisLmax(2),), (ep.EdgeLmax(2), ep.BasisLmax(1))} <= own.keys()
    for shape, made in own.items():
        basis, edges = lmax_of(shape, ep.BasisLmax, 3), lmax_of(shape, ep.EdgeLmax, 3)
        assert basis < edges <= 1 + basis
        for each in made:
            arch = parent.adapter.shrink(parent.architecture, each.plan)
            assert {Irreps.parse(step.a_basis).lmax for step in arch.steps} == {basis}


def test_messages_follow_the_harmonics_where_upstream_builds_the_model(parent: ep.Potential) -> None:
    assert not any(isinstance(target, ep.BasisLmax) for shape in candidates(parent, 0.8) for target in shape)


@pytest.mark.usefixtures("plain_code")
def test_without_l_in_the_features_harmonics_and_messages_go_together(official: Path) -> None:
    """MACE-MP-0 small has scalars between its interactions, so harmonics of more l than the messages do nothing."""
    found = candidates(ep.load(official), 0.4, heterogeneous=True)
    assert not any(isinstance(target, ep.BasisLmax) for shape in found for target in shape)
