"""Definitions of the benchmark of shipped models: what it calls a difference, a hole and a cubic crystal."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def test_a_small_difference_on_every_frame_is_real_though_the_errors_overlap() -> None:
    from official import OFFICIAL, PARENT, FrameErrors, compared, wins

    random = np.random.default_rng(0)
    energy, forces, components = random.uniform(1, 100, 30), random.uniform(100, 10_000, 30), np.full(30, 9)
    official = FrameErrors(energy, forces, components)
    child = FrameErrors(energy - 1, forces * (1 + 0.5 * (-1) ** np.arange(30)), components)
    found = compared({PARENT: official, OFFICIAL: official, "child": child}, OFFICIAL)
    errors, less = found["errors"], found["less_official"]["child"]
    assert errors["child"]["energy"][2] > errors[OFFICIAL]["energy"][1]
    assert less["energy"] == [-1.0, -1.0, -1.0]
    assert less["forces"][1] < 0 < less["forces"][2]
    said = wins({"Cu": found}, "child", OFFICIAL)
    assert "energy smaller on 1 of 1 sets (beyond the interval on Cu)" in said
    assert "(beyond the interval on none), larger beyond the interval on none." in said


def test_a_parent_that_is_the_official_small_model_is_compared_with_once() -> None:
    from official import FrameErrors, compared, difference_table, error_table

    parent = FrameErrors(np.full(4, 10.0), np.full(4, 60.0), np.full(4, 6))
    child = FrameErrors(np.full(4, 12.0), np.full(4, 90.0), np.full(4, 6))
    found = compared({"parent": parent, "child": child}, "parent")
    assert found["less_official"] == {"child": {"energy": [2.0, 2.0, 2.0], "forces": [5.0, 5.0, 5.0]}}
    assert error_table({"Cu": found}).startswith("| set (frames) | energy: parent | child | forces: parent | child |")
    assert difference_table({"Cu": found}, "parent").startswith("| error less that of parent | child: energy | child:")


def test_errors_of_forces_are_means_over_components_whatever_the_frame() -> None:
    from official import FrameErrors

    errors = FrameErrors(np.array([1.0, 3.0]), np.array([30.0, 10.0]), np.array([3, 7]))
    mean = errors.mean(np.array([[0, 1], [1, 1]]))
    assert mean["energy"].tolist() == [2.0, 3.0]
    assert mean["forces"] == pytest.approx([4.0, 20 / 14])


def test_a_hole_is_a_barrier_between_two_wells() -> None:
    from physics import REACH, has_hole

    well = (1 - np.exp(-6 * (REACH - 1.3))) ** 2
    assert not has_hole(well)
    assert not has_hole(-well[::-1].cumsum())
    fallen = well - 3 * np.exp(-(((REACH - 0.8) / 0.08) ** 2)) * well[0]
    assert has_hole(fallen)
    outside = well + 0.5 * np.exp(-(((REACH - 2.0) / 0.1) ** 2))
    assert not has_hole(outside)


def test_cubic_crystals_of_two_atoms() -> None:
    from physics import is_cubic

    assert is_cubic(bulk("NaCl", "rocksalt", a=5.6))
    assert is_cubic(bulk("CsCl", "cesiumchloride", a=4.1))
    assert not is_cubic(bulk("NaCl", "rocksalt", a=5.6, cubic=True))
    stretched = bulk("NaCl", "rocksalt", a=5.6)
    stretched.set_cell(stretched.cell.array * [1, 1, 1.1], scale_atoms=True)
    assert not is_cubic(stretched)
