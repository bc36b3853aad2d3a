"""Metrics of discovery: counted by hand, laws of shares, and the public package's own numbers."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equiprune.evaluation.discovery import StabilityMetrics, classified, stability_metrics

GOLDEN = json.loads((Path(__file__).parent / "stable_metrics.json").read_text())
"""Inputs, and what matbench-discovery 1.3.1 says of them."""

TRUE = [-0.2, -0.1, 0.0, 0.1, 0.2, 0.3]
PREDICTED = [-0.1, 0.1, -0.1, -0.1, 0.2, 0.5]


def test_a_case_counted_by_hand() -> None:
    """Three stable, two of them found; of three that are called stable one is not."""
    found = stability_metrics(TRUE, PREDICTED)
    assert (found.tp, found.fp, found.tn, found.fn, found.missing) == (2, 1, 2, 1, 0)
    shares = (found.precision, found.tpr, found.fnr, found.fpr, found.tnr, found.accuracy, found.f1)
    assert shares == pytest.approx((2 / 3, 2 / 3, 1 / 3, 1 / 3, 2 / 3, 4 / 6, 2 / 3))
    assert found.daf == pytest.approx((2 / 3) / (3 / 6))
    assert found.mae == pytest.approx((0.1 + 0.2 + 0.1 + 0.2 + 0 + 0.2) / 6)
    assert found.rmse == pytest.approx(((0.01 + 0.04 + 0.01 + 0.04 + 0 + 0.04) / 6) ** 0.5)
    assert found.r2 == pytest.approx(1 - 0.14 / (6 * np.var(TRUE)))


def test_the_threshold_itself_is_stable() -> None:
    assert stability_metrics([0.0, 0.1], [0.0, 0.1]).tp == 1
    assert stability_metrics([0.0, 0.1], [0.0, 0.1], threshold=0.1).tp == 2
    assert stability_metrics([0.0, 0.1], [0.0, 0.1], threshold=-0.1).tn == 2


def test_what_is_missing_is_called_unstable_and_has_no_error() -> None:
    found = stability_metrics([-0.1, 0.1, -0.3, 0.4], [np.nan, np.nan, -0.1, 0.5])
    assert (found.tp, found.fn, found.tn, found.fp, found.missing) == (1, 1, 2, 0, 2)
    assert found.mae == pytest.approx(0.15)
    nothing = stability_metrics([-0.1, 0.1], [np.nan, np.nan])
    assert (nothing.mae, nothing.rmse, nothing.r2, nothing.precision, nothing.f1) == (None,) * 5


def test_what_is_undefined_is_none() -> None:
    only_unstable = stability_metrics([0.1, 0.2], [-0.1, 0.2])
    assert (only_unstable.tpr, only_unstable.fnr, only_unstable.daf) == (None, None, None)
    assert only_unstable.precision == 0
    only_stable = stability_metrics([-0.1, -0.1], [0.1, 0.2])
    assert (only_stable.fpr, only_stable.tnr, only_stable.precision, only_stable.r2) == (None,) * 4
    assert only_stable.tpr == 0
    assert stability_metrics([0.1], [0.2]).r2 is None
    assert stability_metrics([0.1] * 3, [0.2] * 3).r2 is None


@pytest.mark.parametrize(
    ("true", "predicted"), [([], []), ([0.1], [0.1, 0.2]), ([np.nan], [0.1]), ([np.inf, 0.1], [0.1, 0.1])]
)
def test_what_cannot_be_measured_is_refused(true: list[float], predicted: list[float]) -> None:
    with pytest.raises(ValueError, match=r"true and . predicted energies above the hull"):
        stability_metrics(true, predicted)


energies = st.floats(-1, 1).map(lambda value: round(value, 3))
cases = st.lists(st.tuples(energies, st.one_of(energies, st.just(np.nan))), min_size=1, max_size=30)


@given(cases)
def test_shares_add_up(case: list[tuple[float, float]]) -> None:
    true, predicted = map(np.array, zip(*case, strict=True))
    found = stability_metrics(true, predicted)
    assert found.tp + found.fp + found.tn + found.fn == len(case)
    if found.tpr is not None:
        assert found.tpr + found.fnr == pytest.approx(1)
    if found.fpr is not None:
        assert found.fpr + found.tnr == pytest.approx(1)
    if found.precision is not None and found.tpr is not None:
        assert found.daf == pytest.approx(found.precision / np.mean(true <= 0))
    if found.f1 is not None:
        assert found.f1 == pytest.approx(2 / (1 / found.precision + 1 / found.tpr))
    calls = classified(true, predicted)
    assert (calls.tp.astype(int) + calls.fp + calls.tn + calls.fn == 1).all()


@given(cases, st.randoms(use_true_random=False))
def test_the_order_of_materials_does_not_matter(case: list[tuple[float, float]], random: Any) -> None:
    shuffled = random.sample(case, len(case))
    first, second = (stability_metrics(*zip(*each, strict=True)).to_json() for each in (case, shuffled))
    assert [value is None for value in first.values()] == [value is None for value in second.values()]
    numbers = [[value for value in each.values() if value is not None] for each in (first, second)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9, abs=1e-12)


@given(cases)
def test_a_perfect_model_finds_everything(case: list[tuple[float, float]]) -> None:
    true = [each[0] for each in case]
    found = stability_metrics(true, true)
    assert (found.fp, found.fn, found.mae, found.accuracy) == (0, 0, 0, 1)


def test_what_chance_finds_may_be_of_a_larger_set() -> None:
    assert stability_metrics(TRUE, PREDICTED, found_by_chance=0.25).daf == pytest.approx((2 / 3) / 0.25)
    assert stability_metrics(TRUE, PREDICTED, found_by_chance=0.0).daf is None


def same(found: StabilityMetrics, public: dict[str, float], but: frozenset[str]) -> None:
    """As the public package says it; what it calls NaN is None."""
    ours = found.to_json()
    assert ours.keys() == public.keys() | {"missing_preds"}
    for name in public.keys() - but:
        expected = public[name]
        assert ours[name] == (None if expected is None or np.isnan(expected) else pytest.approx(expected, abs=1e-12))


NO_ACCURACY = frozenset({"Accuracy"})
"""Version 1.3.1 divides right calls of all materials by the number with a prediction; later ones by that of all."""


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_the_numbers_are_those_of_the_public_package(case: dict[str, Any]) -> None:
    predicted = [np.nan if value is None else value for value in case["predicted"]]
    found = stability_metrics(case["true"], predicted, threshold=case["threshold"])
    same(found, case["metrics"], NO_ACCURACY if None in case["predicted"] else frozenset())


def public_metrics(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of metrics alone: the package would import its data and figures."""
    spec = importlib.util.find_spec("matbench_discovery")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("matbench-discovery is not installed here")
    for needed in ("pandas", "sklearn"):
        pytest.importorskip(needed)
    package = ModuleType("matbench_discovery")
    package.STABILITY_THRESHOLD = 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "matbench_discovery", package)
    path = Path(next(iter(spec.submodule_search_locations))) / "metrics.py"
    if not path.is_file():
        pytest.skip("this version of matbench-discovery keeps its metrics elsewhere")
    alone = importlib.util.spec_from_file_location("metrics_alone", path)
    assert alone is not None
    assert alone.loader is not None
    module = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_public_package_says_the_same_here(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    public = public_metrics(monkeypatch)
    import pandas as pd

    random = np.random.default_rng(seed)
    true = random.normal(0.1, 0.2, 500).round(6)
    predicted = true + random.normal(0, 0.1, 500)
    predicted[random.random(500) < 0.1 * seed] = np.nan
    answer = public.stable_metrics(pd.Series(true), pd.Series(predicted))
    same(stability_metrics(true, predicted), answer, NO_ACCURACY if seed else frozenset())
    calls = classified(true, predicted)
    for ours, theirs in zip(
        (calls.tp, calls.fn, calls.fp, calls.tn),
        public.classify_stable(pd.Series(true), pd.Series(predicted)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
