"""RelaxedCrystal, equation of state and elastic constants of a crystal of springs, all worked out by hand."""

import builtins
from typing import Any

import numpy as np
import pytest
from ase.units import GPa
from pair_potentials import NEAREST, SPRING, Broken, Wrong, fcc, springs

from equiprune.errors import EquipruneError, TargetError
from equiprune.evaluation.properties.at_rest import relaxed
from equiprune.evaluation.properties.bulk import (
    Elasticity,
    EquationOfState,
    RelaxedCrystal,
    birch_murnaghan,
    check_stable,
)
from equiprune.evaluation.properties.outcomes import Outcome, UnmeasurableError, Why, outcome
from equiprune.evaluation.properties.quantity import Model, Property
from equiprune.evaluation.properties.subjects import Subject
from equiprune.evaluation.relaxation import RelaxationRules

RULES = RelaxationRules(fmax=1e-4, optimiser="BFGS")
C11, C12 = np.sqrt(2) * SPRING / NEAREST / GPa, SPRING / np.sqrt(2) / NEAREST / GPa
"""Elastic constants of fcc with springs between nearest neighbours; C44 is C12 (Cauchy)."""
BULK = (C11 + 2 * C12) / 3


def values(examined: Property, calculator: Any = None, rules: RelaxationRules = RULES, start: Any = None) -> Outcome:
    calculator, start = calculator or springs(), fcc(1.01) if start is None else start
    subject = Subject("crystal", start)
    return outcome(lambda: examined.measure(subject, Model(calculator), lambda: relaxed(start, calculator, rules)))


def test_a_crystal_comes_to_rest_where_springs_do() -> None:
    found = values(RelaxedCrystal()).values
    assert found["volume"] == pytest.approx(NEAREST**3 / np.sqrt(2), rel=1e-5)
    assert found["energy"] == pytest.approx(-6 * 300, rel=1e-5)  # six bonds per atom
    assert found["volume_change"] == pytest.approx(100 * (1.01**-3 - 1), abs=1e-3)
    assert found["displacement"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_an_atom_that_moves_back_is_a_displacement() -> None:
    start = fcc().repeat(2)
    start.positions[3] += [0.1, 0, 0]
    moved = 0.1 * np.sqrt((1 / 8) * (1 - 1 / 8))  # of one in eight, seen from their middle
    assert values(RelaxedCrystal(), start=start).values["displacement"] == pytest.approx(moved, rel=0.01)


@pytest.mark.slow
def test_the_equation_of_state_has_the_bulk_modulus_of_springs() -> None:
    pytest.importorskip("matcalc")
    found = values(EquationOfState(strain=0.01, rules=RULES)).values
    assert found["bulk_modulus"] == pytest.approx(BULK, rel=0.01)
    assert found["volume"] == pytest.approx(NEAREST**3 / np.sqrt(2), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("moving", [True, False])
def test_elastic_moduli_are_those_of_springs(moving: bool) -> None:
    pytest.importorskip("matcalc")
    found = values(Elasticity((-0.001, 0.001), (-0.002, 0.002), moving, RULES)).values
    voigt = (C11 - C12 + 3 * C12) / 5
    reuss = 5 * (C11 - C12) * C12 / (4 * C12 + 3 * (C11 - C12))
    assert found["bulk_modulus"] == pytest.approx(BULK, rel=2e-3)
    assert found["shear_modulus"] == pytest.approx((voigt + reuss) / 2, rel=2e-3)


def test_a_crystal_whose_stress_does_not_vanish_is_not_at_rest_though_no_atom_feels_a_force() -> None:
    """Forces on the atoms of fcc vanish by symmetry; matcalc alone would call it converged."""
    found = values(RelaxedCrystal(), rules=RelaxationRules(fmax=1e-4, steps=3))
    assert found.why is Why.NOT_AT_REST
    assert "not at rest after 3 steps" in found.said
    assert "eV/Angstrom are left, 0.0001 are at rest" in found.said


@pytest.mark.parametrize("examined", [RelaxedCrystal(), EquationOfState(), Elasticity()])
@pytest.mark.parametrize(
    ("calculator", "steps", "why"),
    [
        (Wrong(energy=np.nan), 40, Why.NOT_FINITE),
        (Wrong(force=np.inf), 40, Why.NOT_FINITE),
        (Wrong(stress=1e3), 40, Why.COLLAPSED),
        (Wrong(stress=-1e3), 40, Why.FLOWN_APART),
        (Wrong(stress=5e-3), 5, Why.NOT_AT_REST),
        (Broken(), 40, Why.FAILED),
    ],
)
def test_a_model_that_goes_wrong_is_recorded(examined: Property, calculator: Any, steps: int, why: Why) -> None:
    assert values(examined, calculator, RelaxationRules(steps=steps)).why is why


def test_an_error_of_a_calculator_is_one_line() -> None:
    assert values(RelaxedCrystal(), Broken()).said == "ValueError: no such atom"


def test_a_cluster_is_no_crystal() -> None:
    cluster = fcc()
    cluster.pbc = [True, True, False]
    assert values(RelaxedCrystal(), start=cluster).why is Why.NOT_A_CRYSTAL


def test_atoms_in_each_other_are_no_crystal() -> None:
    start = fcc().repeat((2, 1, 1))
    start.positions[1] = start.positions[0] + [0.3, 0, 0]
    assert values(RelaxedCrystal(), Wrong(), start=start).why is Why.COLLAPSED


@pytest.mark.slow
def test_points_of_a_scan_that_do_not_come_to_rest_are_no_equation_of_state() -> None:
    pytest.importorskip("matcalc")
    start = fcc().repeat((2, 1, 1))
    start.positions[0] += [0.05, 0.02, 0]
    assert values(EquationOfState(rules=RelaxationRules(1e-9, steps=2)), start=start).why is Why.NOT_AT_REST


@pytest.mark.slow
def test_deformed_cells_that_do_not_come_to_rest_have_no_elastic_constants() -> None:
    pytest.importorskip("matcalc")
    start = fcc().repeat((2, 1, 1))
    start.positions[0] += [0.05, 0.02, 0]
    assert values(Elasticity(rules=RelaxationRules(1e-9, steps=2)), start=start).why is Why.NOT_AT_REST


def test_flat_energies_are_no_equation_of_state() -> None:
    pytest.importorskip("matcalc")
    assert values(EquationOfState(), Wrong()).why in (Why.BAD_FIT, Why.FAILED)  # matcalc's own fit ends in an error


def test_a_crystal_without_stiffness_is_unstable() -> None:
    pytest.importorskip("matcalc")
    assert values(Elasticity(), Wrong()).why is Why.UNSTABLE


def test_the_minimum_must_be_within_the_scan() -> None:
    pytest.importorskip("pymatgen")
    volumes = np.linspace(10, 12, 7)
    with pytest.raises(UnmeasurableError, match="no minimum within the volumes"):
        birch_murnaghan(volumes, volumes)
    with pytest.raises(UnmeasurableError, match=r"leaves .* of the variance"):
        birch_murnaghan(volumes, np.array([0.0, 1, 0, -0.1, 0, 1, 0]))


def test_a_saddle_is_not_stable() -> None:
    with pytest.raises(UnmeasurableError, match="the stiffness -1 GPa: it is unstable"):
        check_stable(np.diag([5.0, 5, 5, 5, 5, -1]))
    with pytest.raises(UnmeasurableError, match="not finite"):
        check_stable(np.full((6, 6), np.nan))


def test_without_matcalc_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name in ("matcalc", "phonopy"):
            raise ImportError(f"No module named '{name}'")
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    for examined in (EquationOfState(), Elasticity()):
        with pytest.raises(EquipruneError, match=r"pip install 'equiprune\[properties\]'"):
            examined.check_installed()
    RelaxedCrystal().check_installed()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: EquationOfState(strain=0.0), "none of them 0"),
        (lambda: EquationOfState(strain=0.5), "between -0.2 and 0.2"),
        (lambda: EquationOfState(points=6), "an odd number, 5 or more"),
        (lambda: Elasticity(normal=()), "`normal` without a number is not possible"),
        (lambda: Elasticity(shear=(0.0, 0.1)), "`shear` 0.0, 0.1 is not possible"),
        (lambda: RelaxationRules(fmax=0.0), "more than 0, in eV/Angstrom"),
        (lambda: RelaxationRules(fmax=float("nan")), "more than 0, in eV/Angstrom"),
        (lambda: RelaxationRules(steps=0), "`steps` 0 is not possible"),
        (lambda: RelaxationRules(optimiser="FIER"), "Did you mean 'FIRE'"),
        (lambda: RelaxationRules(filter="Frechet"), "There is no filter 'Frechet'"),
        (lambda: RelaxationRules(largest_change=1.0), "more than 1"),
        (lambda: RelaxationRules(closest=1.0), "less than 1"),
    ],
)
def test_impossible_settings_are_refused(made: Any, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        made()
