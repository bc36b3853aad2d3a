"""Agreement of importance: against a definition written out, its limits, and the command that shows it."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from hypothesis import given
from hypothesis import strategies as st

import equiprune as ep
from equiprune.errors import PlanError, TargetError
from equiprune.pruning.stability import agreement, stability, table

SCALAR, VECTOR = ep.Irrep(0, 1), ep.Irrep(1, -1)


def scores(**spaces: dict[ep.Irrep, list[float]]) -> ep.ImportanceScores:
    mean = {name: {ir: np.array(v, dtype=float) for ir, v in by.items()} for name, by in spaces.items()}
    return ep.ImportanceScores(mean, mean, 1)


@given(st.permutations(range(7)), st.permutations(range(7)))
def test_the_correlation_is_that_of_the_ranks(a: list[int], b: list[int]) -> None:
    """Without ties: 1 - 6 sum d^2 / n (n^2 - 1)."""
    squares = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    found = agreement(np.exp(a), np.array(b) * 3.0, 0.4)
    assert found.correlation == pytest.approx(1 - 6 * squares / (7 * 48))
    best = [{i for i, rank in enumerate(side) if rank >= 4} for side in (a, b)]
    assert found.overlap == pytest.approx(len(best[0] & best[1]) / 3)


def test_all_together_is_one_ranking() -> None:
    before = scores(x={SCALAR: [4, 3], VECTOR: [1, 2]}, y={SCALAR: [8, 9]})
    after = scores(x={SCALAR: [3, 4], VECTOR: [1, 2]}, y={SCALAR: [7, 9]})
    found = stability(before, after, 1 / 3)
    assert [*found.blocks] == [("x", "0e"), ("x", "1o"), ("y", "0e")]
    assert [a.correlation for a in found.blocks.values()] == [-1, 1, 1]
    assert (found.overall.channels, found.overall.overlap) == (6, 1)
    assert found.overall.correlation == pytest.approx(1 - 6 * 2 / (6 * 35))
    heading, *rows = table(found)
    assert heading == ["space", "irrep", "channels", "rank correlation", "overlap of the top 0.333333"]
    assert rows[0] == ["x", "0e", "2", "-1.000", "0.000"]
    assert rows[-1] == ["all", "", "6", "0.943", "1.000"]


@pytest.mark.parametrize("side", [[1.0], [2.0, 2.0, 2.0], [0.0, 0.0]])
def test_what_is_undefined_is_none_and_no_warning(side: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in ((np.array(side), np.arange(len(side))), (np.arange(len(side)), np.array(side))):
            found = agreement(*pair, 0.5)
            assert (found.correlation, found.overlap) == (None, None)


@pytest.mark.parametrize("top", [0.0, 1.0, -0.1, float("nan")])
def test_the_top_is_a_fraction(top: float) -> None:
    with pytest.raises(TargetError, match="between 0 and 1"):
        stability(scores(x={SCALAR: [1, 2]}), scores(x={SCALAR: [1, 2]}), top)


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (scores(x={SCALAR: [1, 2, 3]}), "x has 2x0e before and 3x0e after"),
        (scores(x={SCALAR: [1, 2], VECTOR: [1]}), r"x has 2x0e before and 2x0e \+ 1x1o after"),
        (scores(x={SCALAR: [1, 2]}, y={SCALAR: [1]}), "y has nothing before and 1x0e after"),
    ],
)
def test_scores_of_other_models_are_refused(after: ep.ImportanceScores, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        stability(scores(x={SCALAR: [1, 2]}), after)


@pytest.fixture
def trained(cli: Run, xyz: Path, tmp_path: Path) -> Path:
    """The toy model after one hard epoch on labels of a smaller one."""
    small, labels = tmp_path / "small", tmp_path / "labels.xyz"
    assert cli("prune", "toy", "--lmax", 0, "-o", small).code == 0
    assert cli("label", small, xyz, "-o", labels).code == 0
    train = ["train", "toy", "--data", labels, "-o", tmp_path / "run", "--learning-rate", 0.1, "--epochs", 3]
    assert cli(*train).code == 0
    return tmp_path / "run" / "model"


@pytest.mark.slow
def test_the_command_compares_models_or_their_scores(cli: Run, xyz: Path, trained: Path, tmp_path: Path) -> None:
    found = cli("stability", "toy", trained, "--data", xyz, "--top", 0.3, "--json").json
    assert -1 <= found["overall"]["correlation"] < 1
    assert found["top"] == 0.3
    assert {"space", "irrep", "channels", "correlation", "overlap"} == found["blocks"][0].keys()
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    for model, file in zip(("toy", trained), files, strict=True):
        assert cli("calibrate", model, xyz, "-o", file).code == 0
    assert cli("stability", *files, "--top", 0.3, "--json").json["blocks"] == found["blocks"]
    text = cli("stability", *files).out
    assert "rank correlation" in text
    assert "all" in text


def test_a_model_agrees_with_itself(cli: Run, xyz: Path) -> None:
    found = cli("stability", "toy", "toy", "--data", xyz, "--json").json
    assert found["overall"] == {"channels": found["overall"]["channels"], "correlation": 1.0, "overlap": 1.0}


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused(refused: Run, cli: Run, xyz: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    assert cli("prune", "toy", "--lmax", 0, "-o", small).code == 0
    assert cli("calibrate", "toy", xyz, "-o", tmp_path / "a.json").code == 0
    assert cli("calibrate", "toy", xyz, "--limit", 2, "-o", tmp_path / "b.json").code == 0
    says = ("hidden_irreps is", "before and", "after")
    refused("stability", "toy", small, "--data", xyz, says=says)
    refused("stability", "toy", tmp_path / "a.json", "--data", xyz, says="two files of scores")
    refused("stability", "toy", "toy", says="give --data")
    refused("stability", tmp_path / "a.json", tmp_path / "b.json", says="different numbers of structures (None and 2)")
    refused("stability", tmp_path / "a.json", tmp_path / "a.json", "--data", xyz, says="leave out --data")
    refused("stability", "toy", "toy", "--data", xyz, "--top", 2, says=("--top 2", "between 0 and 1"))
