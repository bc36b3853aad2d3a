"""Numbers of one model out of results: what is shown of each kind, and of whom."""

import json
from pathlib import Path
from typing import Any

import pytest

import equiprune as ep
from equiprune.report.measurements import measurements
from equiprune.report.results import Identity, recognised

OWN, PARENT = Identity(sha256="aa", head="PBE"), Identity(sha256="bb")
NAMES = {"identities": {"own": {"sha256": "aa", "head": "PBE"}, "parent": {"sha256": "bb", "head": None}}}


def found(value: Any) -> dict[str, tuple[float | None, float | None, bool | None]]:
    """Value, parent's value and verdict by name."""
    result = recognised(value)
    assert result is not None
    shown = measurements(result, "file.json", OWN, PARENT)
    return {each.name: (each.value, each.parent, each.passed) for each in shown}


def dynamics(**fields: Any) -> dict[str, Any]:
    known = {"model": "own", "sha256": "aa", "head": "PBE", "passed": False, "atoms": 8, "time_ps": 1.5}
    return known | {"crashed": None, "drift_meV_per_atom_per_ps": None, "temperature_K": None} | fields


def test_a_crash_is_a_failure_without_a_value() -> None:
    crashed = dynamics(crashed={"cause": "exploded"}, temperature_K={"value": 300.0, "error": 2.0})
    assert found([crashed]) == {
        "dynamics, 8 atoms, 1.5 ps: crashed": (None, None, False),
        "temperature, 8 atoms, 1.5 ps": (300.0, None, None),
    }


def test_another_head_of_the_same_file_is_another_model() -> None:
    assert not found([dynamics(head="other", crashed={"cause": "exploded"})])


def test_results_of_before_digests_were_recorded_are_of_nobody() -> None:
    assert not found([dynamics(sha256=None, crashed={"cause": "exploded"})])


def test_discovery() -> None:
    def of(model: str, f1: float) -> dict[str, Any]:
        return {"model": model, "on_shared": {"full": {"F1": f1, "DAF": None, "MAE": 0.05}}}

    counts = {"materials": 3, "available": 9, "stable_against": "the convex hull", "shared": 2}
    assert found({**counts, **NAMES, "models": [of("parent", 0.8), of("own", 0.7)]}) == {
        "discovery, F1, full of 2 materials": (0.7, 0.8, None),
        "discovery, MAE, full of 2 materials": (0.05, 0.05, None),
    }


@pytest.mark.parametrize(("most", "passed"), [(3.0, True), (1.0, False)])
def test_properties_are_judged_by_data_where_there_are_any(most: float, passed: bool) -> None:
    def of(error: float) -> dict[str, Any]:
        against = {"data": {"mae": error}, "parent": {"mae": 9.0}}
        return {"modulus": {"unit": "GPa", "mean": 1.0, "structures": 4, "against": against}}

    measured = {"property": "eos", "structures": 4, "compared": 4, "models": {"parent": of(1.0), "own": of(2.0)}}
    limits = [{"property": "eos", "quantity": "modulus", "most": most, "held": passed}]
    assert found({"properties": [measured], **NAMES, "limits": limits}) == {
        "eos, modulus, mean absolute error from the data on 4 structures": (2.0, 1.0, passed)
    }


def test_a_limit_without_an_error_to_compare_is_not_held() -> None:
    own = {"modulus": {"unit": "GPa", "mean": None, "structures": 0, "against": {}}}
    measured = {"property": "eos", "structures": 4, "compared": 0, "models": {"parent": own, "own": own}}
    limits = [{"property": "eos", "quantity": "modulus", "most": 1.0, "held": False}]
    [verdict] = found({"properties": [measured], **NAMES, "limits": limits}).values()
    assert verdict == (None, None, False)


def test_the_page_of_a_run_says_why_a_certificate_failed(tmp_path: Path) -> None:
    drift = ep.Measurement("energy drift, 8 atoms, 1 ps", 3.5, "meV/atom/ps", "md.json", passed=False)
    certificate = ep.Certificate({"nve.drift": 1e-6}, (), {"model": "own"}, (drift,))
    (tmp_path / "certificate.json").write_text(json.dumps(certificate.to_json()))
    page = ep.write_report(tmp_path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "energy drift, 8 atoms, 1 ps" in page
    assert "md.json" in page
    assert "FAILS" in page
