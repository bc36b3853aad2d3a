"""Targets that the model cannot reach are refused with what is possible, and so are flags that contradict."""

from pathlib import Path

import pytest
from command_line import Run


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], ("Say what to reach", "--irreps", "--parameters")),
        (["--irreps", "256x0e"], ("256x0e", "more than the model has", "6x0e+4x1o")),
        (["--irreps", "2x0e+1x2e"], ("1x2e", "more than the model has")),
        (["--irreps", "6x0e+5x1o"], ("5x1o", "more than the model has")),
        (["--irreps", "4x0e,4x0e"], ("takes one list or 3, not 2", "6x0e+4x1o")),
        (["--irreps", "4x0e,4x0e,9x0e"], ("9x0e", "node_feats.2")),
        (["--irreps", "4x0e+nonsense"], ("4x0e+nonsense", "64x0e+32x1e+16x2e")),
        (["--irreps", "4x0e+2x0e"], ("4x0e+2x0e", "twice")),
        (["--irreps", ""], "not a list of irreps"),
        (["--irreps", "0x0e"], "at least"),
        (["--lmax", 2], ("--lmax 2", "0 to 1")),
        (["--lmax", -1], ("--lmax -1", "0 to 1")),
        (["--edge-lmax", 2], ("--edge-lmax 2", "0 to 1")),
        (["--edge-lmax", -1], ("--edge-lmax -1", "0 to 1")),
        (["--channels", 0], ("--channels 0", "1 to 6")),
        (["--channels", 7], ("--channels 7", "1 to 6")),
        (["--channels", 3], ("needs importance scores", "--scores", "--data", "--criterion")),
        (["--parameters", 0], ("--parameters 0", "to 1")),
        (["--parameters", -0.5], ("--parameters -0.5", "to 1")),
        (["--parameters", 1.5], ("--parameters 1.5", "to 1")),
        (["--parameters", "nan"], ("--parameters nan", "to 1")),
        (["--parameters", 0.5, "--floor", 1.5], ("--floor 1.5", "0 to 1")),
        (["--parameters", 0.5, "--floor", "nan"], ("--floor nan", "0 to 1")),
        (["--parameters", 0.01], ("--parameters 0.01", "can keep 0.", "581")),
        (["--parameters", 0.9, "--lmax", 0, "--elements", "H", "--irreps", "9x0e"], "9x0e"),
        (["--elements", "H,Xx"], ("Xx", "no chemical symbol")),
        (["--elements", "hx"], ("'hx'", "no chemical symbol")),
        (["--elements", "H,U"], ("U", "H, C, O, Si")),
        (["--elements", "H,H"], "exactly once"),
        (["--elements", ""], "at least one"),
        (["--heads", "PBE"], ("PBE", "a single one")),
        (["--radial-width", "3,3,3"], ("one number or 1, not 3")),
        (["--radial-width", "three"], ("three", "whole numbers")),
        (["--radial-width", "9"], ("--radial-width 9", "1 to 8")),
        (["--radial-basis", 0], ("--radial-basis 0", "1 to 4")),
        (["--round-to", 64], ("at least", "node_feats")),
    ],
)
def test_impossible_targets_are_refused(flags: list[object], says: str, refused: Run, tmp_path: Path) -> None:
    scores = ["--criterion", "magnitude"] if "--parameters" in flags else []
    refused("prune", "toy", *flags, *scores, "-o", tmp_path / "out", says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--channels", 7], ("--channels 7", "1 to 6")),
        (["--parameters", 0.01], ("--parameters 0.01", "can keep 0.")),
        (["--channels", 3, "--grow-radial-basis", 9], "toy models cannot grow"),
    ],
)
def test_the_impossible_is_refused_before_structures_are_read(
    flags: list[object], says: str, refused: Run, tmp_path: Path
) -> None:
    refused("prune", "toy", *flags, "--data", tmp_path / "missing.xyz", "-o", tmp_path / "out", says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--scores", "s", "--data", "d"], ("--scores", "leave out --data")),
        (["--scores", "s", "--criterion", "random"], ("--scores", "leave out")),
        (["--criterion", "taylor"], ("taylor", "give --data")),
        (["--criterion", "magnitude", "--data", "d"], ("magnitude", "leave out --data")),
        (["--limit", 3], ("--limit", "give --data")),
    ],
)
def test_contradicting_flags_are_refused(flags: list[object], says: str, refused: Run, tmp_path: Path) -> None:
    refused("prune", "toy", "--channels", 3, *flags, "-o", tmp_path / "out", says=says)
