"""Errors worked out by hand; missing labels are counted, never taken as zero."""

from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.evaluation.accuracy import ErrorSums, table
from equiprune.structures.labels import Labels


def labelled(toy: ep.Potential, atoms: Atoms, **errors: Any) -> Atoms:
    """A copy with exact labels plus these errors (total energy, forces, stress), only for the quantities named."""
    [exact] = toy.predict([atoms])
    labels = {name: getattr(exact, name).numpy() + np.asarray(error) for name, error in errors.items()}
    if "stress" in labels:
        labels["stress"] = labels["stress"].flat[[0, 4, 8, 5, 2, 1]]  # ASE's Voigt order: xx yy zz yz xz xy
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **labels)
    return copy


def test_exact_labels_give_no_error(toy: ep.Potential, structures: list[Atoms]) -> None:
    data = [labelled(toy, atoms, energy=0, forces=0, stress=0) for atoms in structures]
    [accuracy] = ep.evaluate({"toy": toy}, data)
    for quantity in ("energy", "forces", "stress"):
        assert accuracy.rmse(quantity) == pytest.approx(0, abs=1e-9)
    assert accuracy.missing == {"energy": 0, "forces": 0, "stress": 0}


def test_errors_are_those_worked_out_by_hand(toy: ep.Potential, structures: list[Atoms]) -> None:
    eight, three = structures[0], structures[3]
    assert (len(eight), len(three)) == (8, 3)
    force = np.zeros((3, 3))
    force[1] = [0.3, 0, -0.6]
    data = [
        labelled(toy, eight, energy=0.8, forces=0, stress=np.full((3, 3), 0.002)),
        labelled(toy, three, energy=-0.9, forces=force, stress=0),
    ]
    [accuracy] = ep.evaluate({"toy": toy}, data)
    assert accuracy.mae("energy") == pytest.approx((100 + 300) / 2)
    assert accuracy.rmse("energy") == pytest.approx(np.sqrt((100**2 + 300**2) / 2))
    assert accuracy.mae("forces") == pytest.approx(900 / 33)
    assert accuracy.rmse("forces") == pytest.approx(np.sqrt((300**2 + 600**2) / 33))
    assert accuracy.mae("stress") == pytest.approx(2 * 9 / 18)
    assert accuracy.rmse("stress") == pytest.approx(np.sqrt(4 * 9 / 18))


def test_forces_are_broken_down_by_element(toy: ep.Potential, structures: list[Atoms]) -> None:
    water = structures[3]
    assert water.get_chemical_symbols() == ["O", "H", "H"]
    force = np.array([[0.1, 0.1, 0.1], [0, 0, 0], [0, 0, 0.6]])
    [accuracy] = ep.evaluate({"toy": toy}, [labelled(toy, water, forces=force)])
    by_element = accuracy.to_json()["by_element"]
    assert by_element["O"]["forces_mae"] == pytest.approx(100)
    assert by_element["H"]["forces_mae"] == pytest.approx(100)
    assert by_element["H"]["forces_rmse"] == pytest.approx(np.sqrt(600**2 / 6))


def test_errors_are_broken_down_by_config_type(toy: ep.Potential, structures: list[Atoms]) -> None:
    data = [
        labelled(toy, atoms, energy=len(atoms) * error) for atoms, error in zip(structures, (1, 2, 4), strict=False)
    ]
    for atoms, kind in zip(data, ("bulk", "bulk", "slab"), strict=True):
        atoms.info["config_type"] = kind
    [accuracy] = ep.evaluate({"toy": toy}, data)
    assert accuracy.mae("energy", ("config_type", "bulk")) == pytest.approx(1500)
    assert accuracy.mae("energy", ("config_type", "slab")) == pytest.approx(4000)
    assert accuracy.to_json()["by_config_type"]["slab"]["energy_mae"] == pytest.approx(4000)


def test_a_structure_is_right_within_the_bounds_of_the_open_catalyst_project(toy: ep.Potential) -> None:
    """0.02 eV in the energy; 0.03 eV/Angstrom in every force component of the atoms that are free."""
    [atoms, *_] = ep.probe_structures([1, 6, 8, 14]).values()
    wrong = np.zeros((len(atoms), 3))
    wrong[1, 2] = 0.04
    fixed = atoms.copy()
    fixed.set_constraint(FixAtoms([1]))
    cases = [
        (labelled(toy, atoms, energy=0.019, forces=0.029), 1.0),
        (labelled(toy, atoms, energy=0.021, forces=0.029), 0.0),
        (labelled(toy, atoms, energy=0, forces=wrong), 0.0),
        (labelled(toy, fixed, energy=0, forces=wrong), 1.0),
    ]
    for case, right in cases:
        [accuracy] = ep.evaluate({"toy": toy}, [case])
        assert accuracy.efwt == right
    assert accuracy.mae("forces") > 0  # over all atoms


def test_a_missing_label_is_counted_and_never_zero(toy: ep.Potential, structures: list[Atoms]) -> None:
    data = [labelled(toy, structures[0], energy=0.8), labelled(toy, structures[1], forces=0.1), structures[2]]
    [accuracy] = ep.evaluate({"toy": toy}, data)
    assert accuracy.missing == {"energy": 2, "forces": 2, "stress": 3}
    assert accuracy.mae("energy") == pytest.approx(100)
    assert accuracy.mae("forces") == pytest.approx(100)
    assert accuracy.mae("stress") is None
    assert accuracy.to_json()["stress_mae"] is None
    assert table([accuracy])[1][3] == "no labels"


def test_no_label_at_all_is_an_error(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(StructureError, match="REF_energy"):
        ep.evaluate({"toy": toy}, structures)


def test_ref_labels_are_read_and_win(toy: ep.Potential, structures: list[Atoms], tmp_path: Any) -> None:
    atoms = labelled(toy, structures[3], energy=99)
    [exact] = toy.predict([atoms])
    atoms.info["REF_energy"] = exact.energy.item() + 0.3
    atoms.arrays["REF_forces"] = exact.forces.numpy() + 0.2
    atoms.info["REF_stress"] = exact.stress.numpy() + 0.01
    ase.io.write(tmp_path / "data.xyz", atoms, format="extxyz")
    [accuracy] = ep.evaluate({"toy": toy}, ep.read_structures(tmp_path / "data.xyz"))
    assert accuracy.mae("energy") == pytest.approx(100)
    assert accuracy.mae("forces") == pytest.approx(200, abs=1e-3)
    assert accuracy.mae("stress") == pytest.approx(10)


def test_a_stress_in_voigt_order_is_the_same_as_a_matrix() -> None:
    matrix = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    for stress in (matrix, matrix.ravel(), np.arange(1.0, 7)):
        labels = Labels.of(Atoms("H", info={"REF_stress": stress}))
        assert labels.stress is not None
        np.testing.assert_array_equal(labels.stress, matrix)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"energy": float("nan")}, "energy label of HO is not finite"),
        ({"forces": [[0, 0, 0], [0, 0, np.inf]]}, "forces label of HO is not finite"),
        ({"stress": [0, 0, 0, np.nan, 0, 0]}, "stress label of HO is not finite"),
    ],
)
def test_a_label_that_is_not_finite_names_its_structure(toy: ep.Potential, labels: Any, message: str) -> None:
    atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    with pytest.raises(StructureError, match=message):
        ep.evaluate({"toy": toy}, [atoms])


def test_a_label_of_another_shape_is_refused(toy: ep.Potential) -> None:
    atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]], info={"REF_stress": [1.0, 2.0]})
    with pytest.raises(StructureError, match="stress label of HO is not 3 x 3 numbers"):
        ep.evaluate({"toy": toy}, [atoms])


def test_models_are_compared_on_the_same_structures_whatever_the_batches(
    toy: ep.Potential, structures: list[Atoms]
) -> None:
    data = [labelled(toy, atoms, energy=0.1, forces=0.1, stress=0.1) for atoms in structures]
    other = ep.masked(toy, ep.allocate(toy, [ep.Lmax(0)]))
    done: list[int] = []
    first, second = ep.evaluate({"a": toy, "b": other}, iter(data), batch_atoms=5, progress=done.append)
    assert (first.model, second.model, first.structures, sum(done)) == ("a", "b", 4, 4)
    assert second.mae("energy") != pytest.approx(first.mae("energy"))
    [together] = ep.evaluate({"a": toy}, data, batch_atoms=10**6)
    assert together.mae("forces") == pytest.approx(first.mae("forces"))


def test_sums_of_errors_add_up() -> None:
    errors = np.array([1.0, -2, 4, 0])
    assert ErrorSums.of(errors[:1]) + ErrorSums.of(errors[1:]) == ErrorSums.of(errors) == ErrorSums(7, 21, 4)
    assert ErrorSums().mae is None
    assert ErrorSums().rmse is None
