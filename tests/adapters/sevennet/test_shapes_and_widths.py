"""Candidates that a search makes of SevenNet-l3i5, before anything is built."""

import pytest
from searching_for import candidates

import equiprune as ep


@pytest.mark.usefixtures("plain_code")  # numbers alone
def test_every_shape_has_candidates_that_keep_the_budget() -> None:
    parent = ep.load("7net-l3i5")
    found = candidates(parent, 0.3)
    assert {(), (ep.Lmax(2), ep.EdgeLmax(2)), (ep.Lmax(1), ep.EdgeLmax(2)), (ep.RadialWidth((32,)),)} <= found.keys()
    assert all(len(made) == 2 for made in found.values())
    even, _ = found[ep.Lmax(2), ep.EdgeLmax(2)]
    hidden = parent.adapter.shrink(parent.architecture, even.plan).hidden_irreps
    assert all("3e" not in irreps for irreps in hidden)
    assert 0.27 < even.predicted.parameters <= 0.3
