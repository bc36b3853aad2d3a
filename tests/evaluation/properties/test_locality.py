"""Locality: pair potentials feel what is within their cutoff, and calculators that feel everything are found."""

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from pair_potentials import Wrong, fcc, springs

import equiprune as ep
from equiprune.errors import TargetError
from equiprune.evaluation.properties.locality import Locality, reach
from equiprune.evaluation.properties.measuring import model_of
from equiprune.evaluation.properties.outcomes import Outcome, Why, outcome
from equiprune.evaluation.properties.quantity import Model, Relaxed
from equiprune.evaluation.properties.subjects import Subject


class Global(Calculator):
    """Everything feels everything: the energy is 0.01 eV for each pair of atoms, times their distance squared."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        apart = atoms.positions[:, None] - atoms.positions
        self.results = {"energy": 0.005 * float((apart**2).sum()), "forces": -0.02 * apart.sum(axis=1)}


def values(calculator: Any, atoms: Atoms, cutoff: float = 3.4) -> Outcome:
    def never() -> Relaxed:
        raise AssertionError("nothing is relaxed")

    return outcome(lambda: Locality().measure(Subject("x", atoms), Model(calculator, cutoff=cutoff), never))


def test_neighbours_alone_are_local_and_extensive() -> None:
    atoms = fcc().repeat((2, 1, 1))
    atoms.positions[0] += [0.1, 0.2, 0.0]
    found = values(springs(), atoms).values
    assert found["extensivity"] == pytest.approx(0, abs=1e-9)
    assert found["additivity"] == pytest.approx(0, abs=1e-9)
    assert found["felt"] == pytest.approx(0, abs=1e-9)
    assert found["reach"] == pytest.approx(0.9 * 3.4, rel=1e-6)  # the next atom of the chain


def test_what_feels_everything_is_neither() -> None:
    found = values(Global(), fcc().repeat((2, 1, 1))).values
    assert found["extensivity"] > 1
    assert found["additivity"] > 1
    assert found["felt"] == pytest.approx(1e3 * 0.02 * 0.08)  # of one atom that moves so far
    assert found["reach"] >= 60


def test_the_cell_is_no_part_of_a_molecule() -> None:
    assert values(springs(), Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]])).values["extensivity"] is None


def test_a_network_feels_no_farther_than_twice_its_interactions(toy: ep.Potential, structures: list[Atoms]) -> None:
    model, architecture = model_of(toy), toy.architecture
    found = Locality().measure(Subject("x", structures[0]), model, lambda: pytest.fail("nothing is relaxed"))
    assert found["extensivity"] == pytest.approx(0, abs=1e-8)
    assert found["additivity"] == pytest.approx(0, abs=1e-8)
    assert found["felt"] == pytest.approx(0, abs=1e-8)
    assert 0 < found["reach"] <= 2 * architecture.interactions * architecture.cutoff


def test_a_row_that_does_not_feel_has_no_reach() -> None:
    row = Atoms("Cu3", [[0, 0, 0], [9, 0, 0], [18, 0, 0]])
    assert reach(row, springs()) == 0


def test_a_model_that_goes_wrong_is_recorded() -> None:
    assert values(Wrong(force=np.nan), fcc()).why is Why.NOT_FINITE


@pytest.mark.parametrize(
    ("made", "says"), [(lambda: Locality(gap=1.0), "more than 1 cutoff"), (lambda: Locality(chain=0.0), "0 Angstrom")]
)
def test_impossible_settings_are_refused(made: Any, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        made()
