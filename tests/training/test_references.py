"""Energies of elements: what is fitted is what was put in, what is given is what comes out, and all of it is said."""

import json
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from runs import labelled, parent, student

import equiprune as ep
from equiprune.errors import CheckpointError, TargetError
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.label import label
from equiprune.potentials.atomic_energies import energies, isolated_energies, reference_steps, with_references
from equiprune.structures.labels import Labels
from equiprune.training.from_scratch import from_scratch
from equiprune.training.references import (
    GivenReferences,
    KeepReferences,
    Offsets,
    RefitReferences,
    read_references,
    with_scale_of_forces,
)
from equiprune.training.replay import relabelled

TRUE = {1: -13.6, 6: -1029.5, 8: 3.25, 14: 0.5}


def compositions(seed: int = 0) -> list[Atoms]:
    """The parent's labels on structures of all its elements, in more compositions than there are elements."""
    bare = [atoms for one in range(seed, seed + 2) for atoms in ep.probe_structures([1, 6, 8, 14], one).values()]
    bare += [atoms[: len(atoms) // 2 + 1] for atoms in bare]
    return list(label(parent(), augmented(bare, Augmentation(copies=1))))


def without_energies(structures: Sequence[Atoms]) -> list[Atoms]:
    bare = [atoms.copy() for atoms in structures]
    for atoms, original in zip(bare, structures, strict=True):
        atoms.calc = SinglePointCalculator(atoms, forces=original.calc.results["forces"])
    return bare


def molecules(formula: str, energies_of_them: Sequence[float]) -> list[Atoms]:
    """Scattered atoms of one composition with these energies."""
    found = []
    for i, energy in enumerate(energies_of_them):
        atoms = Atoms(formula)
        atoms.positions = 3 * np.random.default_rng(i).random((len(atoms), 3)) + 2 * np.arange(len(atoms))[:, None]
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
        found.append(atoms)
    return found


# Refitted.


def test_a_refit_finds_what_another_level_of_theory_adds() -> None:
    done = RefitReferences().apply(parent(), relabelled(compositions(), TRUE))
    assert done.changes == pytest.approx(TRUE, abs=1e-5)
    other = compositions(5)
    for atoms, prediction in zip(other, done.potential.predict(other), strict=True):
        expected = Labels.of(atoms).energy + sum(TRUE[z] for z in atoms.numbers)
        assert prediction.energy.item() == pytest.approx(expected, abs=1e-4)
    assert "4 independent compositions of 4 elements" in done.said
    assert "-> 0.0 meV/atom" in done.said
    assert "C -1029.5000" in done.said
    assert "isolated atoms" not in done.said


@pytest.mark.slow
def test_a_refit_is_the_least_of_all_changes() -> None:
    data = relabelled(compositions(), TRUE)
    done = RefitReferences().apply(student(), data)
    found = Offsets.of(student(), data)
    assert found is not None
    assert found.rms(done.changes) > 1  # the student is not its parent, something is left
    for z in done.changes:
        for by in (-1e-2, 1e-2):
            assert found.rms({**done.changes, z: done.changes[z] + by}) > found.rms(done.changes)
    again = RefitReferences().apply(done.potential, data)
    assert again.changes == pytest.approx(dict.fromkeys(TRUE, 0.0), abs=1e-4)


def test_with_one_composition_the_smallest_change_is_taken_and_said() -> None:
    data = molecules("CH4", [-500.0, -500.1])
    done = RefitReferences().apply(student(), data)
    assert done.changes[6] == pytest.approx(done.changes[1] / 4, abs=1e-4)
    assert done.changes.keys() == {1, 6}  # the others stay
    assert "1 independent compositions of 2 elements" in done.said
    assert "give isolated atoms to compare others" in done.said
    assert np.mean(energies(done.potential, data)) == pytest.approx(-500.05, abs=1e-3)


@pytest.mark.slow
def test_structures_without_an_energy_take_no_part_and_all_of_them_are_refused() -> None:
    data = relabelled(compositions(), TRUE)
    mixed = [*without_energies(data[:3]), *data]
    assert RefitReferences().apply(parent(), mixed).changes == RefitReferences().apply(parent(), data).changes
    with pytest.raises(TargetError, match=r"no structure has a label of its energy\. Keep them, or give"):
        RefitReferences().apply(parent(), without_energies(data))


@pytest.mark.slow
def test_many_structures_are_fitted_as_if_all_were_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit only a triangle with the same least squares is kept."""
    data = relabelled(compositions(), TRUE)
    noisy = [*data, *relabelled(data[:2], {1: 0.3})]
    whole = Offsets.of(parent(), noisy)
    monkeypatch.setattr("equiprune.training.references._ROWS", 4)
    monkeypatch.setattr("equiprune.training.references.BATCH_ATOMS", 8)
    short = Offsets.of(parent(), noisy)
    assert whole is not None
    assert short is not None
    assert len(short.values) < len(whole.values) or len(noisy) <= 120
    assert (short.elements, short.count, short.mean) == (whole.elements, whole.count, whole.mean)
    assert short.fitted() == whole.fitted()
    for changes in ({}, whole.fitted()[0]):
        assert short.rms(changes) == pytest.approx(whole.rms(changes), rel=1e-9)


def test_the_change_does_not_depend_on_precision_or_order() -> None:
    """Bit by bit: a run that goes on elsewhere must find the references it was begun with."""
    data = relabelled(compositions(), TRUE)
    low = ep.Potential.create(parent().adapter, parent().checkpoint, torch.float32)
    expected = RefitReferences().apply(parent(), data).changes
    assert RefitReferences().apply(low, data).changes == expected
    assert RefitReferences().apply(parent(), data[::-1]).changes == expected


# Given.


def test_isolated_atoms_have_the_energies_that_were_given() -> None:
    done = GivenReferences({**TRUE, 92: 1.0}, anyway=True).apply(student(), labelled())
    assert isolated_energies(done.potential, list(TRUE)) == pytest.approx(TRUE, abs=1e-6)
    own = isolated_energies(student(), list(TRUE))
    assert done.changes == pytest.approx({z: TRUE[z] - own[z] for z in TRUE}, abs=1e-6)
    assert "H -13.6000" in done.said
    assert "U " not in done.said  # uranium is left aside: this model has no place for it


def test_an_element_of_the_data_that_is_not_given_is_refused_by_name() -> None:
    with pytest.raises(TargetError, match="given for H, but the structures also have C, O"):
        GivenReferences({1: -13.6}).apply(student(), molecules("CH4O", [0.0]))


def test_given_energies_are_read_from_json_and_from_single_atoms(tmp_path: Path) -> None:
    (tmp_path / "atoms.json").write_text(json.dumps({"H": -13.6, "O": 3}))
    assert read_references(tmp_path / "atoms.json", 4.0).energies == {1: -13.6, 8: 3.0}
    crystal = Atoms("O", cell=[3.0] * 3, pbc=True)  # one atom, but not alone
    box = Atoms("H", cell=[9.0] * 3, pbc=True)
    for atoms, energy in ((crystal, 7.0), (box, -13.6)):
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    data = [*molecules("O", [3.0]), crystal, box, Atoms("C"), *molecules("CO", [1.0]), *molecules("O", [3.0])]
    ase.io.write(tmp_path / "atoms.extxyz", data)
    assert read_references(tmp_path / "atoms.extxyz", 4.0).energies == {1: -13.6, 8: 3.0}


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("[1]", TargetError, "gives no energies by element"),
        ("{}", TargetError, "gives no energies by element"),
        ('{"Hy": 1}', TargetError, "'Hy' is no element. Did you mean"),
        ('{"H": "1"}', TargetError, "energy of H is 1. Give a number in eV"),
        ('{"H": NaN}', CheckpointError, "has NaN where a number belongs"),
        ("{", CheckpointError, "not a file of energies by element"),
    ],
)
def test_files_that_are_no_energies_are_refused(text: str, error: type, says: str, tmp_path: Path) -> None:
    (tmp_path / "atoms.json").write_text(text)
    with pytest.raises(error, match=says):
        read_references(tmp_path / "atoms.json", 4.0)


def test_structures_that_are_no_isolated_atoms_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "atoms.extxyz"
    ase.io.write(path, molecules("CO", [1.0]))
    with pytest.raises(TargetError, match="no isolated atom with an energy"):
        read_references(path, 4.0)
    ase.io.write(path, molecules("O", [1.0, 2.0]))
    with pytest.raises(TargetError, match=r"two energies for an isolated O: 1\.0 and 2\.0 eV"):
        read_references(path, 4.0)


# Kept, and what is said and recorded.


def test_kept_references_change_nothing_and_say_when_that_is_hardly_meant() -> None:
    done = KeepReferences().apply(parent(), labelled())
    assert done.potential is parent()
    assert done.changes == {}
    assert done.said == "References kept. Labels minus model: +0.000 eV/atom, mean over 7 structures."
    far = KeepReferences().apply(parent(), relabelled(labelled(), dict.fromkeys(TRUE, -0.6)))
    assert "Labels minus model: -0.600 eV/atom" in far.said
    assert "`references` refit is probably what you want" in far.said
    assert KeepReferences().apply(parent(), without_energies(labelled())).said == "References kept."


def test_a_change_is_recorded_and_makes_another_model_of_it() -> None:
    moved = with_references(student(), {8: 0.25}, "refitted")
    assert moved.checkpoint.sha256 == ""
    assert reference_steps(student()) == []
    [step] = reference_steps(moved)
    assert (step["references"], step["changes"]) == ("refitted", {"O": 0.25})
    assert moved.checkpoint.history == (*student().checkpoint.history, step)
    single = with_references(student().with_dtype(torch.float32), {8: 0.25}, "refitted")
    assert {weight.dtype for weight in single.checkpoint.weights.values()} == {torch.float32}
    with pytest.raises(TargetError, match="does not know U"):
        with_references(student(), {92: 1.0}, "given")


# Scale.


def test_a_model_without_a_scale_says_so() -> None:
    with pytest.raises(TargetError, match="toy models have no energy scale"):
        with_scale_of_forces(from_scratch(student()), labelled())


def test_no_forces_are_no_scale() -> None:
    with pytest.raises(TargetError, match="no forces, or only zeros"):
        with_scale_of_forces(student(), molecules("CO", [1.0]))


def test_references_that_lead_far_from_the_labels_are_refused_unless_said() -> None:
    """Energies of all electrons beside labels of pseudopotentials."""
    wrong = {z: energy - 12_500.3 for z, energy in TRUE.items()}
    with pytest.raises(TargetError, match=r"not the energies of isolated atoms at the level.*`references_anyway`"):
        GivenReferences(wrong).apply(student(), labelled())
    done = GivenReferences(wrong, anyway=True).apply(student(), labelled())
    assert "further from the labels" in done.said
