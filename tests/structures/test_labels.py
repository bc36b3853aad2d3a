"""Which key a label is read from, and what is said of it."""

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equiprune.errors import StructureError
from equiprune.structures.labels import LabelCounts, LabelKeys, Labels, label_sources

STRESS = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])


def molecule(**more: Any) -> Atoms:
    """Labelled three times over: by a calculator, under REF_ and under names of its own."""
    atoms = Atoms("OH", positions=np.eye(3)[:2], cell=[5.0] * 3, pbc=True)
    atoms.info = {"REF_energy": 2.0, "dft_energy": 3.0, "dft_stress": STRESS.flatten()} | more
    atoms.arrays["REF_forces"], atoms.arrays["dft_forces"] = np.full((2, 3), 2.0), np.full((2, 3), 3.0)
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, free_energy=0.5, forces=np.full((2, 3), 1.0))
    return atoms


def test_without_keys_a_structure_is_as_it_was() -> None:
    atoms = molecule()
    assert LabelKeys().on(atoms) is atoms
    assert (Labels.of(atoms).energy, Labels.of(atoms).stress) == (2.0, None)


@pytest.mark.parametrize(
    ("key", "energy"), [("dft_energy", 3.0), ("energy", 1.0), ("free_energy", 0.5), ("REF_energy", 2.0)]
)
def test_a_key_is_an_entry_of_info_or_a_calculator_result(key: str, energy: float) -> None:
    found = Labels.of(LabelKeys(energy=key).on(molecule()))
    assert found.energy == energy
    np.testing.assert_array_equal(found.forces, np.full((2, 3), 2.0))  # not chosen: as ever


@pytest.mark.parametrize(("key", "value"), [("dft_forces", 3.0), ("forces", 1.0), ("REF_forces", 2.0)])
def test_forces_are_an_array_or_a_calculator_result(key: str, value: float) -> None:
    np.testing.assert_array_equal(Labels.of(LabelKeys(forces=key).on(molecule())).forces, np.full((2, 3), value))


@pytest.mark.parametrize("stress", [STRESS, STRESS.flatten(), STRESS.flatten()[[0, 4, 8, 5, 2, 1]], STRESS.tolist()])
def test_a_stress_is_six_or_nine_numbers(stress: Any) -> None:
    np.testing.assert_array_equal(Labels.of(LabelKeys(stress="s").on(molecule(s=stress))).stress, STRESS)


def test_a_structure_without_the_chosen_key_has_no_label() -> None:
    """Another level of theory in its place would be worse than none."""
    lacking = molecule()
    del lacking.info["dft_energy"], lacking.arrays["dft_forces"]
    found = Labels.of(LabelKeys(energy="dft_energy", forces="dft_forces").on(lacking))
    assert (found.energy, found.forces) == (None, None)
    assert Labels.of(lacking).energy == 2.0  # the input is left as it was


@pytest.mark.parametrize("stress", [np.ones(5), "kbar", [[1.0, 2.0]]])
def test_a_label_of_another_shape_is_refused(stress: Any) -> None:
    with pytest.raises(StructureError, match="stress label of HO is not 3 x 3 numbers"):
        Labels.of(LabelKeys(stress="s").on(molecule(s=stress)))


def test_a_key_that_nothing_has_is_refused_by_name() -> None:
    there = "REF_energy, REF_forces, dft_energy, dft_forces, dft_stress, energy, forces, free_energy"
    message = f"'dtf_energy', given as `energy_key`. Did you mean 'dft_energy'[?] There are: {there}"
    with pytest.raises(StructureError, match=message):
        LabelKeys(energy="dtf_energy").check([molecule(), molecule()])
    with pytest.raises(StructureError, match=r"'x', given as `stress_key`\. There are: no keys at all"):
        LabelKeys(stress="x").check([Atoms("H")])


def test_one_structure_with_the_key_is_enough_and_no_more_are_read() -> None:
    def few() -> Any:
        yield Atoms("H")
        yield molecule()
        pytest.fail("read on")

    LabelKeys(energy="dft_energy", forces="dft_forces").check(few())
    LabelKeys().check(few())


def test_all_of_a_sequence_is_labelled_when_asked_for() -> None:
    structures = [molecule(), molecule(dft_energy=7.0)]
    assert LabelKeys().on_all(structures) is structures
    assert [Labels.of(atoms).energy for atoms in LabelKeys(energy="dft_energy").on_all(structures)] == [3.0, 7.0]
    with pytest.raises(StructureError, match="No structure has 'x'"):
        LabelKeys(energy="x").on_all(structures)


def counted(structures: list[Atoms]) -> LabelCounts:
    return LabelCounts.of(label_sources(atoms, Labels.of(atoms)) for atoms in structures)


def test_what_was_used_is_counted_and_said() -> None:
    other = molecule()
    del other.info["REF_energy"]
    keys = LabelKeys(stress="dft_stress")
    counts = counted([keys.on(atoms) for atoms in (molecule(), other, Atoms("H"))])
    assert str(counts) == (
        "Labels: energy from REF_energy (1 of 3) and calculator result energy (1 of 3), forces from REF_forces "
        "(2 of 3), stress from dft_stress (2 of 3)."
    )
    assert counts == counted([keys.on(molecule())]) + counted([keys.on(other)]) + counted([Atoms("H")])
    assert str(counted([Atoms("H")])) == "Labels: no energy, no forces, no stress."


def test_the_stress_of_a_molecule_is_not_counted() -> None:
    atoms = molecule()
    atoms.pbc = False
    assert counted([LabelKeys(stress="dft_stress").on(atoms)]).of_quantity("stress") == {}
