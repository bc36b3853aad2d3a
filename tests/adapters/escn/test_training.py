"""Training a model whose forces are an output of their own: upstream's losses, and nothing that it does not have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from feature_loss import assert_features_are_learnt
from random_escn import random_checkpoint, small
from test_forward import upstream

import equiprune as ep
from equiprune.adapters.escn import EscnAdapter
from equiprune.errors import TargetError
from equiprune.potentials.hessian import hessian
from equiprune.training.batches import with_labels
from equiprune.training.objective import Square, Term, mace_universal, open_catalyst
from equiprune.training.optimisation import Optimisation
from equiprune.training.recipe import Recipe


@pytest.fixture(scope="module")
def parent() -> ep.Potential:
    return ep.Potential.create(EscnAdapter(), random_checkpoint(small(elements=29)), torch.float32)


@pytest.fixture(scope="module")
def labelled(parent: ep.Potential) -> list[Atoms]:
    structures = ep.probe_structures(parent.elements).values()
    return list(ep.label(parent, ep.augmented(structures, ep.Augmentation(copies=2, seed=1))))


@pytest.fixture(scope="module")
def student(parent: ep.Potential, labelled: list[Atoms]) -> ep.Potential:
    scores = ep.calibrate(parent, labelled[:4])
    return ep.prune(parent, ep.allocate(parent, [ep.Lmax(2), ep.HiddenChannels(5)], scores))


RECIPE = Recipe(open_catalyst(), Optimisation(1e-3, clip=20.0, average=None), epochs=4, batch_size=3)


def test_a_teacher_without_stress_labels_none(labelled: list[Atoms]) -> None:
    assert all(atoms.calc.results.keys() == {"energy", "forces", "energies"} for atoms in labelled)


def test_a_student_without_stress_moves_and_relaxes_in_its_cell(
    parent: ep.Potential, student: ep.Potential, labelled: list[Atoms]
) -> None:
    walks = [ep.Dynamics(frames=1, interval=2, temperature=50.0), ep.Relaxation(frames=1, steps=3)]
    found = list(ep.visited(labelled[:1], ep.Driver(student.calculator(), student=True), walks))
    visits = [item.atoms for item in found if isinstance(item, ep.Visit)]
    assert len(visits) == 3
    for atoms in visits[1:]:
        np.testing.assert_array_equal(atoms.cell.array, labelled[0].cell.array)
        assert np.abs(atoms.positions - labelled[0].positions).max() > 0
    assert [atoms.calc.results.keys() for atoms in ep.label(parent, visits)] == [{"energy", "forces", "energies"}] * 3


def test_loss_and_gradient_are_those_of_upstreams_forward(parent: ep.Potential, labelled: list[Atoms]) -> None:
    """Energies of structures by absolute error, forces by the length of the difference, on upstream's own numbers."""
    other = ep.Potential.create(EscnAdapter(), random_checkpoint(small(elements=29), seed=5), torch.float64)
    weights = [p for p in other.module.parameters() if p.requires_grad]
    whole = with_labels(other.graph(labelled), labelled)
    sums = open_catalyst().sums(other.for_training().train()(*whole.inputs), whole.targets, whole.graph)
    ours = sum((part.total / part.count for part in sums.values()), torch.zeros(()))
    with torch.enable_grad():
        energies, forces = upstream(other, labelled)
    energy = np.array([atoms.get_potential_energy() for atoms in labelled])
    force = np.concatenate([atoms.get_forces() for atoms in labelled])
    expected = 2 * (energies - torch.as_tensor(energy)).abs().mean()
    expected = expected + 100 * (forces - torch.as_tensor(force)).norm(dim=-1).mean()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-9)
    gradients = (torch.autograd.grad(loss, weights, allow_unused=True) for loss in (ours, expected))
    for a, b in zip(*gradients, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.supports("eSCN (random weights)", "trains")
def test_a_student_learns_and_goes_on_to_the_same_bits(
    student: ep.Potential, labelled: list[Atoms], tmp_path: Path
) -> None:
    def error(model: ep.Potential) -> float:
        [accuracy] = ep.evaluate({"": model}, labelled)
        assert accuracy.mae("stress") is None
        return accuracy.mae("forces") or 0.0

    through = ep.train(student, labelled, RECIPE, tmp_path / "through")
    assert error(through) < 0.9 * error(student)

    def stopping(count: int) -> None:
        raise KeyboardInterrupt

    often, watchers = replace(RECIPE, save_every=1), ep.Watchers(progress=stopping)
    with pytest.raises((KeyboardInterrupt, ep.EquipruneError)):
        ep.train(student, labelled, often, tmp_path / "stopped", watchers=watchers)
    again = ep.train(student, labelled, replace(RECIPE, save_every=1), tmp_path / "stopped")
    for name, weight in through.checkpoint.weights.items():
        assert torch.equal(weight, again.checkpoint.weights[name]), name


def test_stress_and_hessian_are_refused_by_name(student: ep.Potential, labelled: list[Atoms], tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="escn models have no stress: their forces are an output of their own"):
        ep.train(student, labelled, Recipe(mace_universal(), Optimisation()), tmp_path / "run")
    with_hessian = replace(open_catalyst(), hessian=Term(1.0, Square()))
    with pytest.raises(TargetError, match="escn models have no hessian"):
        ep.train(student, labelled, Recipe(with_hessian, Optimisation()), tmp_path / "run")
    with pytest.raises(TargetError, match="escn models have no hessian"):
        hessian(student, labelled[0])
    assert not (tmp_path / "run").exists()


def test_right_energies_with_right_forces_are_counted(parent: ep.Potential, labelled: list[Atoms]) -> None:
    """EFwT of the Open Catalyst project: a parent is right about all of its own labels, and about none moved away."""
    [accuracy] = ep.evaluate({"": parent}, labelled)
    assert accuracy.efwt == 1.0
    moved = [atoms.copy() for atoms in labelled]
    for i, (atoms, before) in enumerate(zip(moved, labelled, strict=True)):
        atoms.calc = type(before.calc)(atoms, **before.calc.results)
        atoms.calc.results["energy"] += 0.03 * (i % 2)
    [accuracy] = ep.evaluate({"": parent}, moved)
    assert accuracy.efwt == pytest.approx(1 - (len(moved) // 2) / len(moved))


def test_the_calculator_has_no_stress(parent: ep.Potential, labelled: list[Atoms]) -> None:
    atoms = labelled[0].copy()
    atoms.calc = parent.calculator()
    assert np.isfinite(atoms.get_forces()).all()
    assert "stress" not in atoms.calc.results
    with pytest.raises(Exception, match="stress"):
        atoms.get_stress()


def test_features_of_the_parent_are_learnt(
    parent: ep.Potential, student: ep.Potential, labelled: list[Atoms], tmp_path: Path
) -> None:
    assert_features_are_learnt(parent, student, labelled[:4], tmp_path)
