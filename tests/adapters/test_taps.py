"""Taps: masks first, then what watches; several of both on one space."""

import torch

from equiprune import BlockMask, Irrep, Irreps
from equiprune.adapters import NO_TAPS, Taps

SCALAR, IRREPS = Irrep(0, 1), Irreps.parse("3x0e")
ONES = torch.ones(2, 3)


def mask(*kept: int) -> BlockMask:
    return BlockMask.keep(IRREPS, {SCALAR: kept})


def test_a_space_without_a_tap_is_left_as_it_is() -> None:
    assert NO_TAPS("x", ONES) is ONES
    assert not NO_TAPS
    assert "x" not in NO_TAPS
    assert NO_TAPS.kept("x", ONES) is None


def test_what_watches_is_given_the_masked_feature_and_may_replace_it() -> None:
    seen = []
    taps = Taps({"x": mask(0, 2)}, {"x": lambda feature: seen.append(feature) or 2 * feature})
    assert taps("x", ONES)[0].tolist() == [2.0, 0.0, 2.0]
    assert seen[0][0].tolist() == [1.0, 0.0, 1.0]


def test_masks_add_up_and_are_told() -> None:
    taps = Taps({"x": mask(0, 2)}).masked({"x": mask(1, 2), "y": mask(0)})
    kept = taps.kept("x", ONES.double())
    assert kept is not None
    assert (kept.tolist(), kept.dtype) == ([0.0, 0.0, 1.0], torch.float64)
    assert taps("y", ONES)[0].tolist() == [1.0, 0.0, 0.0]


def test_watchers_come_one_after_another() -> None:
    taps = Taps(watched={"x": lambda feature: feature + 1}).watching({"x": lambda feature: feature * 10})
    assert taps("x", ONES)[0].tolist() == [20.0, 20.0, 20.0]
