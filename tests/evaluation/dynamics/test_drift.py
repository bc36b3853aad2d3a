"""Drift of made-up series whose slope and noise are known, and error bars that mean what they say."""

import numpy as np
import pytest

from equiprune.errors import TargetError
from equiprune.evaluation.dynamics.drift import Drift, Verdict
from equiprune.evaluation.dynamics.measured import DynamicsAnalysis
from equiprune.evaluation.dynamics.statistics import Estimate, block_means, mean, slope

TIMES = np.arange(1, 2001) * 5e-4


def correlated(random: np.random.Generator, steps: int, memory: float, size: float) -> np.ndarray:
    """Noise (steps,) of this standard deviation that forgets itself after so many steps."""
    kept = np.exp(-1 / memory)
    found = [random.standard_normal()]
    for kick in random.standard_normal(steps - 1) * np.sqrt(1 - kept**2):
        found.append(kept * found[-1] + kick)
    return size * np.array(found)


def test_a_line_without_noise_is_its_slope() -> None:
    drift = Drift.of(TIMES, 3.0 + 2e-4 * TIMES)
    assert drift.slope.value == pytest.approx(0.2)
    assert drift.slope.error == pytest.approx(0, abs=1e-9)
    assert drift.rms == pytest.approx(0, abs=1e-9)
    assert drift.verdict is Verdict.FAILED


def test_the_detrended_rms_is_that_of_the_noise() -> None:
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(TIMES))
    drift = Drift.of(TIMES, 2e-4 * TIMES + noise)
    assert drift.rms == pytest.approx(1.0, rel=0.05)
    assert drift.slope.value == pytest.approx(0.2, abs=3 * drift.slope.error)


def test_error_bars_hold_for_correlated_noise() -> None:
    """Two thirds of truths within one error bar, and the error of independent steps would be far too small."""
    random = np.random.default_rng(1)
    slopes = [slope(TIMES, TIMES + correlated(random, len(TIMES), 20, 0.1)) for _ in range(200)]
    within = np.mean([abs(found.value - 1) < found.error for found in slopes])
    assert 0.55 < within < 0.8
    spread = np.std([found.value for found in slopes])
    assert np.mean([found.error for found in slopes]) == pytest.approx(spread, rel=0.2)
    means = [mean(5 + correlated(random, len(TIMES), 20, 0.1)) for _ in range(200)]
    assert 0.55 < np.mean([abs(found.value - 5) < found.error for found in means]) < 0.8


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (0.05, 0.04, "passed"),
        (-0.05, 0.04, "passed"),
        (0.05, 0.06, "undecided"),
        (0.15, 0.06, "undecided"),
        (0.2, 0.01, "failed"),
        (-0.2, 0.01, "failed"),
        (0.05, 0.3, "undecided"),
        (5.0, 0.3, "failed"),
        (0.0, np.nan, "undecided"),
    ],
)
def test_it_passes_only_with_its_error(value: float, error: float, verdict: str) -> None:
    drift = Drift(Estimate(value, error), 0.0, limit=0.1)
    assert drift.verdict.value == drift.to_json()["verdict"] == verdict


def test_series_too_short_to_say_have_no_error() -> None:
    assert np.isnan(slope(TIMES[:9], TIMES[:9]).error)
    assert np.isnan(slope(TIMES[:1], TIMES[:1]).value)
    assert np.isnan(mean(TIMES[:5]).error)
    assert mean(TIMES[:1]).value == TIMES[0]
    assert str(Estimate(0.12345)) == "0.123 +- ?"


def test_blocks_leave_the_rest_out_at_the_beginning() -> None:
    assert block_means(np.array([100.0, 1, 2, 3, 4]), 2).tolist() == [1.5, 3.5]
    assert block_means(np.array([1.0]), 2).tolist() == []


def test_an_estimate_in_another_unit() -> None:
    assert Estimate(2.0, 0.5).times(-3) == Estimate(-6.0, 1.5)
    assert [str(Estimate(12.3456, error)) for error in (0.0, 0.0123, 5.0, 123.0)] == [
        "12 +- 0",
        "12.346 +- 0.012",
        "12.3 +- 5.0",
        "12 +- 123",
    ]


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan])
def test_a_limit_is_positive(limit: float) -> None:
    with pytest.raises(TargetError, match=r"`drift_limit` .* is not possible: give a positive number of meV/atom/ps"):
        DynamicsAnalysis(drift_limit=limit)
