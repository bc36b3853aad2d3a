"""Curves of pairs: a Morse potential against itself, and defects that a test puts in; files of curves."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import all_changes
from ase.calculators.morse import MorsePotential
from pair_potentials import Broken, Wrong, springs

from equiprune.errors import StructureError, TargetError
from equiprune.evaluation.properties.diatomics import Curve, read_curves
from equiprune.evaluation.properties.dimers import Dimers, minima, pair_curve
from equiprune.evaluation.properties.outcomes import Outcome, Why, outcome
from equiprune.evaluation.properties.quantity import Model, Relaxed


def never() -> Relaxed:
    raise AssertionError("a pair is not relaxed")


def morse(**more: Any) -> MorsePotential:
    return springs(rcut1=4.0, rcut2=5.0, **more)


class Jumping(MorsePotential):
    """A pair whose energy jumps by 0.2 eV at 3 Angstrom, without a force."""

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] += 0.2 * (atoms.get_distance(0, 1) > 3)


class Dipping(MorsePotential):
    """A pair that is also bound at 4 Angstrom, by 50 meV, without a force."""

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] -= 0.05 * np.exp(-(((atoms.get_distance(0, 1) - 4.5) / 0.2) ** 2))


def values(calculator: Any, known: Curve | None = None, **settings: Any) -> Outcome:
    [subject] = Dimers(**settings).pairs({29: known}).subjects
    return outcome(lambda: Dimers(**settings).measure(subject, Model(calculator), never))


def known_curve(shift: float = 0.0) -> Curve:
    distances = np.linspace(1.0, 6.0, 26)
    energies, forces = pair_curve(29, distances, morse())
    return Curve(distances, energies + shift, forces)


@pytest.mark.slow
def test_a_pair_that_agrees_with_the_data_has_no_error_whatever_the_zero_of_energy_is() -> None:
    [subject] = Dimers().pairs({29: known_curve(shift=7.0)}).subjects
    found = outcome(lambda: Dimers().measure(subject, Model(morse()), never)).values
    assert found["energy"] == pytest.approx(subject.references["energy"], abs=1e-9)
    assert found["force"] == pytest.approx(subject.references["force"], abs=1e-9)
    assert subject.references["energy"][-1] == 0
    assert all(2.376 <= distance <= 6.0 for distance in subject.distances)


@pytest.mark.slow
def test_a_smooth_pair_has_no_defects() -> None:
    found = values(morse()).values
    assert found["inconsistency"] < 1e-3
    assert found["jump"] < 5
    assert found["spurious_minima"] == 0
    assert len(found["energy"]) == Dimers().points


@pytest.mark.slow
def test_a_jump_is_found_and_its_force_is_missing() -> None:
    found = values(Jumping(epsilon=0.3, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)).values
    assert found["jump"] == pytest.approx(200, abs=5)


@pytest.mark.slow
def test_a_second_minimum_is_spurious_and_is_not_the_slope_of_the_force() -> None:
    found = values(Dipping(epsilon=0.3, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)).values
    assert found["spurious_minima"] == 1
    steepest = 50 / 0.2 * np.sqrt(2 / np.e)  # which may be between two distances that are looked at
    assert 0.7 * steepest < found["inconsistency"] < 1.01 * steepest
    shallow = values(Dipping(epsilon=0.3, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0), depth=0.06)
    assert shallow.values["spurious_minima"] == 0


def test_an_edge_is_no_minimum() -> None:
    assert minima(np.array([0.0, 1.0, 2.0, 1.0, 0.0]), 0.01) == 0


@pytest.mark.parametrize(("calculator", "why"), [(Wrong(energy=np.nan), Why.NOT_FINITE), (Broken(), Why.FAILED)])
def test_a_model_that_goes_wrong_is_recorded(calculator: Any, why: Why) -> None:
    assert values(calculator).why is why


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Dimers(shortest=2.5), "A range of 2.5 to 2.5 bond lengths"),
        (lambda: Dimers(farthest=0.0), "must both be more than 0"),
        (lambda: Dimers(points=3), "10 or more"),
        (lambda: Dimers(farthest=2.0).pairs({29: None}), "Give a larger `farthest`"),
        (lambda: Dimers().pairs({29: Curve(np.array([9.0]), np.array([0.0]))}), "has no two points from 2.376 to 6.0"),
    ],
)
def test_impossible_settings_are_refused(made: Any, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        made()


GOOD = {"distances": [1.0, 2.0], "energies": [0.5, 0.25], "forces": [[[-1, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]]}


def written(folder: Path, content: Any, *, packed: bool = False) -> Path:
    path, text = folder / "curves.json", (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_curves_are_read_by_element_and_pairs_of_two_are_left_out(tmp_path: Path, packed: bool) -> None:
    curves = read_curves(written(tmp_path, {"PBE": {"H-H": GOOD, "Na-Cl": GOOD}}, packed=packed))
    assert list(curves) == [1]
    assert curves[1].energies.tolist() == [0.5, 0.25]
    assert curves[1].forces.tolist() == [1, 0]


def test_forces_may_be_unknown(tmp_path: Path) -> None:
    given = {"distances": [1.0, 2.0], "energies": [0.5, 0.25]}
    assert read_curves(written(tmp_path, {"PBE": {"H-H": given}}))[1].forces is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"PBE": {"H-H"', "is not readable JSON"),
        ("[]", "has not the layout of curves"),
        ({}, "has not the layout of curves"),
        ({"PBE": 3}, "has not the layout of curves"),
        ({"r2SCAN": {"H-H": GOOD}}, "has no curves of PBE. It has: r2SCAN"),
        ({"PBE": {"hydrogen": GOOD}}, "'hydrogen' is no pair of elements"),
        ({"PBE": {"Na-Cl": GOOD}}, "no pair of the same element"),
        ({"PBE": {"H-H": {"distances": [1.0]}}}, "PBE of H-H lacks distances or energies"),
        ({"PBE": {"H-H": [1]}}, "lacks distances or energies"),
        ({"PBE": {"H-H": {**GOOD, "energies": [1.0]}}}, "has 2 distances and 1 energies"),
        ({"PBE": {"H-H": {**GOOD, "energies": ["low", 1.0]}}}, "holds something that is no number"),
        ({"PBE": {"H-H": {**GOOD, "forces": [1.0, 2.0]}}}, r"forces of shape \(2,\): give \(2, 2, 3\)"),
        ({"PBE": {"H-H": {**GOOD, "energies": [float("nan"), 1.0]}}}, "not finite, or distances that do not ascend"),
        ({"PBE": {"H-H": {**GOOD, "distances": [2.0, 1.0]}}}, "distances that do not ascend"),
        ({"PBE": {"H-H": {**GOOD, "distances": [0.0, 1.0]}}}, "ascend from above 0"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(StructureError, match=says):
        read_curves(written(tmp_path, content))


def test_missing_and_cut_off_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="there is no such file"):
        read_curves(tmp_path / "none.json.gz")
    path = written(tmp_path, {"PBE": {"H-H": GOOD}}, packed=True)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(StructureError, match="Is it whole"):
        read_curves(path)
