"""Phonons of a crystal of springs, whose highest frequency is worked out by hand; harmonic sums that are known."""

from typing import Any

import numpy as np
import pytest
from ase import units
from pair_potentials import SPRING, Broken, Wrong, fcc, springs

from equiprune.errors import TargetError
from equiprune.evaluation.properties.outcomes import Outcome, Why, outcome
from equiprune.evaluation.properties.phonons import Phonons, harmonic
from equiprune.evaluation.properties.quantity import Model, Relaxed
from equiprune.evaluation.properties.subjects import Subject

GAS = units.kB * units._e * units._Nav
"""J/(mol K)."""


def values(examined: Phonons, calculator: Any = None, stretched: float = 1.0) -> Outcome:
    atoms = fcc(stretched)
    model = Model(springs() if calculator is None else calculator)
    return outcome(lambda: examined.measure(Subject("Cu", atoms), model, lambda: Relaxed(atoms, 0.0, 0)))


@pytest.fixture(scope="module")
def found() -> Outcome:
    pytest.importorskip("phonopy")
    return values(Phonons(displacement=0.001, mesh=4))


@pytest.mark.slow
def test_the_highest_frequency_is_that_of_longitudinal_waves_at_x(found: Outcome) -> None:
    """Nearest neighbours in fcc: m omega^2 = 8 k, an eighth of which comes from each that moves against the atom."""
    expected = np.sqrt(8 * SPRING * units._e * 1e20 / (fcc().get_masses()[0] * units._amu)) / (2 * np.pi) * 1e-12
    assert found.values["highest"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_a_stable_crystal_has_no_imaginary_modes_and_a_heat_capacity_below_3_r(found: Outcome) -> None:
    assert found.values["imaginary"] == 0
    assert len(found.values["frequencies"]) == 4**3 * 3
    assert 0.9 * 3 * GAS < found.values["heat_capacity"] < 3 * GAS
    frequencies = np.array(found.values["frequencies"])
    expected = harmonic(frequencies[frequencies > 0.1], 300.0)
    assert (found.values["heat_capacity"], found.values["entropy"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_stretched_crystal_is_unstable_and_has_no_entropy() -> None:
    pytest.importorskip("phonopy")
    loose = springs(
        rcut1=1.6, rcut2=1.8
    )  # still nearest neighbours alone, 1.3 as far: the pair energy bends down there
    stretched = values(Phonons(displacement=0.001, mesh=2), loose, stretched=1.3)
    assert stretched.values["imaginary"] > 0
    assert stretched.values["entropy"] is None
    assert stretched.values["heat_capacity"] is None


def test_harmonic_sums_have_known_limits() -> None:
    capacity, entropy = harmonic(np.array([0.01]), 300.0)
    assert capacity == pytest.approx(3 * GAS, rel=1e-5)
    x = units._hplanck * 1e10 / (units._k * 300)
    assert entropy == pytest.approx(3 * GAS * (1 - np.log(x)), rel=1e-5)
    assert harmonic(np.array([1000.0]), 10.0) == pytest.approx((0, 0), abs=1e-9)


def test_a_supercell_may_have_fewer_symmetries_than_the_crystal() -> None:
    """Two cells along one vector and three along the others: phonopy warns of it, and warnings are errors in tests."""
    pytest.importorskip("phonopy")
    assert Phonons(length=5.1, mesh=1).frequencies(fcc().repeat((2, 1, 1)), springs()).min() > -1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calculator", "why"), [(Wrong(force=np.nan), Why.NOT_FINITE), (Broken(), Why.FAILED)], ids=["nan", "broken"]
)
def test_a_model_that_goes_wrong_is_recorded(calculator: Any, why: Why) -> None:
    pytest.importorskip("phonopy")
    assert values(Phonons(), calculator).why is why


def test_a_supercell_that_is_too_large_is_recorded() -> None:
    found = values(Phonons(most=26))
    assert "the supercell would have" in found.said
    assert found.why is Why.FAILED


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Phonons(displacement=0.0), "`displacement` 0.0 is not possible: give more than 0 Angstrom"),
        (lambda: Phonons(temperature=-1.0), "more than 0 K"),
        (lambda: Phonons(tolerance=0.0), "more than 0 THz"),
        (lambda: Phonons(mesh=0), "`mesh` 0"),
    ],
)
def test_impossible_settings_are_refused(made: Any, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        made()
