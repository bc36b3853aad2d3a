"""Copies with other elements: which come in, at what volume, the same again, and the command that labels them."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii
from hypothesis import given
from hypothesis import strategies as st

import equiprune as ep
from equiprune.errors import StructureError, TargetError
from equiprune.labelling.job import LabellingJob
from equiprune.labelling.substitution import FAMILIES, Substitution, exchanged, similar, substituted

KNOWN = frozenset(range(1, 95))


def crystal(*numbers: int) -> Atoms:
    """One atom of each element in a box, with labels that were of these elements."""
    places = np.random.default_rng(0).uniform(0, 1, (len(numbers), 3))
    atoms = Atoms(
        list(numbers), scaled_positions=places, cell=[5, 6, 7], pbc=True, info={"traj": "mp-1", "energy": 1.0}
    )
    atoms.set_initial_magnetic_moments(np.ones(len(numbers)))
    return atoms


@given(st.lists(st.integers(1, 94), min_size=1, max_size=5, unique=True), st.integers(0, 1000))
def test_elements_come_in_for_similar_ones_and_never_become_one(numbers: list[int], seed: int) -> None:
    atoms = crystal(*numbers)
    if not any(similar(z) - set(numbers) for z in numbers):
        return
    original, *copies = substituted([atoms], Substitution(copies=3, seed=seed), KNOWN)
    assert original.numbers.tolist() == numbers
    for copy in copies:
        pairs = list(zip(numbers, copy.numbers.tolist(), strict=True))
        assert all(new == old or new in similar(old) for old, new in pairs)
        assert any(new != old for old, new in pairs)
        assert len(set(copy.numbers.tolist())) == len(set(numbers))


def test_the_volume_is_that_of_the_radii() -> None:
    atoms = crystal(11, 17)
    larger = exchanged(atoms, {11: 55})
    ratio = (covalent_radii[[55, 17]] ** 3).sum() / (covalent_radii[[11, 17]] ** 3).sum()
    assert larger.get_volume() / atoms.get_volume() == pytest.approx(ratio)
    np.testing.assert_allclose(larger.get_scaled_positions(), atoms.get_scaled_positions(), atol=1e-12)
    molecule = Atoms("OH2", positions=[[0, 0, 0], [0.9, 0.1, 0], [-0.2, 0.9, 0]])
    sulfide = exchanged(molecule, {8: 16})
    factor = ((covalent_radii[[16, 1, 1]] ** 3).sum() / (covalent_radii[[8, 1, 1]] ** 3).sum()) ** (1 / 3)
    np.testing.assert_allclose(sulfide.get_all_distances(), factor * molecule.get_all_distances())
    np.testing.assert_allclose(sulfide.positions.mean(0), molecule.positions.mean(0), atol=1e-12)


def test_copies_keep_what_says_where_they_are_from_and_nothing_of_the_old_elements() -> None:
    original, copy = substituted([crystal(11, 17)], Substitution(copies=1), KNOWN)
    assert original.has("initial_magmoms")
    assert not copy.has("initial_magmoms")
    assert copy.info == original.info == {"traj": "mp-1"}


def test_a_structure_gets_the_same_copies_whatever_is_drawn_for_others() -> None:
    chosen = Substitution(copies=2, seed=4)
    both = list(substituted([crystal(11, 17), crystal(12, 8)], chosen, KNOWN))
    again = list(substituted([crystal(3, 9), crystal(12, 8)], chosen, KNOWN))
    for a, b in zip(both[3:], again[3:], strict=True):
        np.testing.assert_array_equal(a.numbers, b.numbers)


def test_only_elements_that_are_allowed_and_known_come_in() -> None:
    chosen = Substitution(copies=8, elements=(19, 37, 35))
    for copy in list(substituted([crystal(11, 17)], chosen, KNOWN - {37}))[1:]:
        assert set(copy.numbers.tolist()) <= {11, 17, 19, 35}


def test_a_structure_without_similar_elements_is_refused() -> None:
    with pytest.raises(StructureError, match=r"Structure 1.*ClNa.*none of its elements.*among Fe\. Similar.*K"):
        list(substituted([crystal(28), crystal(11, 17)], Substitution(copies=1, elements=(26,)), KNOWN))


@pytest.mark.parametrize("wrong", [{"copies": -1}, {"share": 0.0}, {"share": 1.5}, {"share": float("nan")}])
def test_impossible_choices_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TargetError, match=r"is not possible"):
        Substitution(**wrong)


def test_every_element_but_a_few_has_a_family() -> None:
    alone = {z for z in range(1, 90) if not similar(z)}
    assert alone == {84, 85, 86, 87, 88}  # Po to Ra: radioactive, and in no teacher
    assert all(len(family) > 1 for family in FAMILIES)


def test_records_of_jobs_without_it_stay_as_they_were() -> None:
    from equiprune.labelling.augmentation import Augmentation
    from equiprune.labelling.dynamics import Dynamics

    job = LabellingJob(Augmentation(), Dynamics(), None)
    assert set(job.described()) == {"augmentation", "dynamics", "hessian"}
    more = LabellingJob(Augmentation(copies=1), Dynamics(frames=2), None, Substitution(copies=3))
    assert more.each == 4 * 2 * 3
    assert more.described()["substitution"] == Substitution(copies=3)


def test_the_command_labels_them_and_goes_on(tmp_path: Path) -> None:
    """The toy knows H, C, O and Si: silicon comes in for carbon, and the other way round."""
    atoms = Atoms("CO", positions=[[0, 0, 0], [1.2, 0, 0]], cell=[4, 4, 4], pbc=True)
    ase.io.write(tmp_path / "data.extxyz", [atoms, atoms], format="extxyz")
    other = ep.commands.SubstitutionOptions(substitutions=1)
    copy = ep.commands.CopyOptions(copies=1)
    request = ep.commands.Label(
        "toy", str(tmp_path / "data.extxyz"), output=str(tmp_path / "out.extxyz"), other=other, copy=copy
    )
    assert request.run().structures == 8
    found = list(ep.read_structures(tmp_path / "out.extxyz"))
    assert [a.get_chemical_formula() for a in found] == ["CO", "CO", "OSi", "OSi"] * 2
    assert all(np.isfinite(a.get_potential_energy()) for a in found)


def test_flags_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"`substitute_elements` are for `substitutions`"):
        ep.commands.SubstitutionOptions(substitute_elements="Li")
    with pytest.raises(TargetError, match=r"'Xx' is no chemical symbol"):
        ep.commands.SubstitutionOptions(substitutions=1, substitute_elements="Xx")
    with pytest.raises(TargetError, match=r"does not say which elements it knows"):
        ep.commands.Label(
            "ase.calculators.emt:EMT",
            "data.extxyz",
            output=str(tmp_path / "out.extxyz"),
            other=ep.commands.SubstitutionOptions(substitutions=1),
        )
