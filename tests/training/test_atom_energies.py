"""Atom energies as labels and as a term of the objective: from every teacher, through files, moved, refused."""

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from runs import RECIPE, batch, labelled, parent, student

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.files.settings import from_json, to_json
from equiprune.labelling.label import label
from equiprune.labelling.teachers import CalculatorTeacher
from equiprune.structures.labels import LabelKeys, Labels, label_sources
from equiprune.training.objective import Huber, Objective, Square, Term, mace_universal
from equiprune.training.replay import relabelled
from equiprune.training.scan import check_labels

NONE = Term(0.0, Square())
SHARES = Objective(NONE, NONE, atom_energies=Term(2.0, Square()))
"""Nothing but atom energies."""


def with_shares(energies: np.ndarray | list[float], energy: float) -> Atoms:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0.8, 0, 0]])
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((2, 3)), energies=np.array(energies))
    return atoms


def test_a_teacher_gives_each_atom_its_share_also_after_a_file(tmp_path: Path) -> None:
    found = list(label(parent(), [atoms.copy() for atoms in labelled()]))
    ase.io.write(tmp_path / "labelled.extxyz", found, format="extxyz")
    read = ep.read_structures(tmp_path / "labelled.extxyz")
    for atoms, again, predicted in zip(found, read, parent().predict(found), strict=True):
        expected = predicted.atom_energies.double().numpy()
        np.testing.assert_allclose(Labels.of(atoms).atom_energies, expected, atol=1e-12)
        np.testing.assert_allclose(Labels.of(again).atom_energies, expected, atol=1e-7)
        assert Labels.of(again).energy == pytest.approx(expected.sum(), abs=1e-6)


def test_a_calculator_gives_them_if_it_has_them() -> None:
    copper = bulk("Cu", cubic=True).repeat((2, 1, 1))
    copper.rattle(0.1, seed=1)
    [atoms] = label(CalculatorTeacher(EMT(), "ase.calculators.emt:EMT"), [copper])
    copper.calc = EMT()
    np.testing.assert_allclose(Labels.of(atoms).atom_energies, copper.get_potential_energies(), rtol=1e-12)

    class Without(EMT):
        implemented_properties = ("energy", "forces", "stress")

    [atoms] = label(CalculatorTeacher(Without(), "without"), [copper])
    assert Labels.of(atoms).atom_energies is None


def test_the_term_is_the_mean_over_atoms_that_have_a_share() -> None:
    structures = [*label(parent(), [atoms.copy() for atoms in labelled()[:2]]), labelled()[2].copy()]
    without = structures[-1]
    without.calc = SinglePointCalculator(without, energy=0.0)
    data = batch(student(), structures)
    predicted = student().for_training().eval()(*data.inputs)
    part = SHARES.sums(predicted, data.targets, data.graph)["atom_energies"]
    labels = np.concatenate([Labels.of(atoms).atom_energies for atoms in structures[:2]])
    own = torch.cat([p.atom_energies for p in student().predict(structures[:2])]).numpy()
    assert part.count == len(labels)
    assert float(part.total.detach()) == pytest.approx(2.0 * np.square(own - labels).sum(), rel=1e-5)


@pytest.mark.slow
def test_a_model_that_has_its_parents_shares_is_left_where_it_is(tmp_path: Path) -> None:
    """And another one gets nearer to them."""
    structures = list(label(parent(), [atoms.copy() for atoms in labelled()]))
    recipe = replace(RECIPE, objective=SHARES)

    def distance(potential: ep.Potential) -> float:
        pairs = zip(potential.predict(structures), structures, strict=True)
        return sum(float(np.square(p.atom_energies.numpy() - Labels.of(a).atom_energies).sum()) for p, a in pairs)

    start = student()
    assert distance(parent()) < 1e-9
    trained = ep.train(start, structures, recipe, tmp_path / "run")
    assert distance(trained) < 0.9 * distance(start)
    assert "train_atom_energies" in (tmp_path / "run" / "curve.csv").read_text().splitlines()[0]


def test_a_run_without_the_term_does_not_know_of_them(tmp_path: Path) -> None:
    """Neither its record nor its digest of the data changes, so that older runs go on."""
    structures = list(label(parent(), [atoms.copy() for atoms in labelled()]))
    bare = [atoms.copy() for atoms in structures]
    for atoms, copy in zip(structures, bare, strict=True):
        results = {name: value for name, value in atoms.calc.results.items() if name != "energies"}
        copy.calc = SinglePointCalculator(copy, **results)
    known = parent().elements
    digests = [check_labels(s, mace_universal(), known, "training").digest for s in (structures, bare)]
    assert digests[0] == digests[1]
    weighed = replace(mace_universal(), atom_energies=Term(1.0, Huber()))
    assert check_labels(structures, weighed, known, "training").digest != digests[0]
    assert "atom_energies" not in to_json(mace_universal())
    assert from_json(to_json(weighed)) == weighed


def test_replayed_shares_move_with_the_references() -> None:
    changes = {1: -1.5, 6: 4.0}
    for before, after in zip(labelled(), relabelled(labelled(), changes), strict=True):
        labels, moved = Labels.of(before), Labels.of(after)
        if labels.energy is None:  # then nothing says that there are references in it
            continue
        assert labels.atom_energies is not None
        assert moved.atom_energies is not None
        shift = np.array([changes.get(int(z), 0.0) for z in before.numbers])
        np.testing.assert_allclose(moved.atom_energies, labels.atom_energies + shift)
        assert moved.atom_energies.sum() == pytest.approx(moved.energy, abs=1e-9)


def test_keys_name_them_too() -> None:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0.8, 0, 0]], info={"e": 3.0})
    atoms.arrays["shares"] = np.array([1.0, 2.0])
    chosen = LabelKeys(energy="e", atom_energies="shares").on(atoms)
    labels = Labels.of(chosen)
    assert labels.atom_energies is not None
    assert labels.atom_energies.tolist() == [1.0, 2.0]
    assert label_sources(chosen, labels) == {"energy": "e", "atom_energies": "shares"}
    other = LabelKeys(atom_energies="none").on(with_shares([1.0, 2.0], 3.0))
    assert Labels.of(other).atom_energies is None


def test_a_teacher_without_them_is_refused() -> None:
    bare = [with_shares([1.0, 2.0], 3.0)]
    bare[0].calc = SinglePointCalculator(bare[0], energy=3.0, forces=np.zeros((2, 3)))
    with pytest.raises(StructureError, match=r"has a label of its atom energies.*a teacher that divides its energy"):
        check_labels(bare, SHARES, {1}, "training")


def test_two_teachers_are_refused_by_name() -> None:
    """An energy of one and atom energies of another cannot both be learnt."""
    good, bad = with_shares([1.0, 2.0], 3.0), with_shares([1.0, 2.0], 3.1)
    check_labels([good], SHARES, {1}, "training")
    with pytest.raises(
        StructureError,
        match=r"Structure 1 for training \(H2\): its atom energies add up to 3\.0000 eV, its energy is 3\.1000 eV",
    ):
        check_labels([good, bad], SHARES, {1}, "training")
    check_labels([good, bad], mace_universal(stress=0.0), {1}, "training")


@pytest.mark.parametrize("shares", [[1.0, np.nan], [1.0, 2.0, 0.0]])
def test_shares_that_are_no_numbers_of_the_atoms_are_refused(shares: list[float]) -> None:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0.8, 0, 0]], info={"REF_atom_energies": np.array(shares)})
    with pytest.raises(StructureError, match=r"The atom energies label of H2 is not"):
        Labels.of(atoms)
