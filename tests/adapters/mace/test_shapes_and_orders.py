"""Candidates that a search makes of MACE-MP-0 small, before anything is built."""

from pathlib import Path

import pytest
from searching_for import candidates

import equiprune as ep


@pytest.mark.usefixtures("plain_code")  # numbers alone
def test_every_shape_has_candidates_that_keep_the_budget(official: Path) -> None:
    """Upstream has one number of channels: even widths and those by importance are the same."""
    found = candidates(ep.load(official), 0.4)
    assert {(), (ep.EdgeLmax(2),), (ep.Correlation(2),), (ep.EdgeLmax(1), ep.Correlation(2))} <= found.keys()
    for shape in ((), (ep.EdgeLmax(2),), (ep.Correlation(2),)):
        made = found[shape]
        assert len(made) == 2
        assert made[0].predicted.parameters > 0.3
