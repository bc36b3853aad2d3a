"""Candidates that a search makes of eSCN, before anything is built."""

from searching_for import candidates

import equiprune as ep


def test_shapes_have_candidates_that_keep_the_budget(model: ep.Potential) -> None:
    found = candidates(model, 0.6)
    assert found[()]
    assert sum(map(len, found.values())) >= 4
