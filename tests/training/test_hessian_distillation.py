"""Hessian distillation on the toy: labels and their file, the loss and its gradient, stopping, refusals."""

import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from runs import HESSIAN, RECIPE, batch, everything, labelled, parent, probed, rows, run, signalled, student
from torch import nn

import equiprune as ep
from equiprune.errors import OutputError, StructureError, TargetError
from equiprune.files.settings import to_json
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.hessian_labels import with_products
from equiprune.labelling.label import label
from equiprune.potentials import derivatives as predictor
from equiprune.potentials.hessian import Probes, RandomProbes, Rows, hessian
from equiprune.structures.labels import PRODUCTS, VECTORS, HessianProducts, Labels
from equiprune.training import trainer
from equiprune.training.hessian_batches import ProbeSubset
from equiprune.training.objective import Absolute, Norm, Objective, Square, Term, mace_universal
from equiprune.training.optimisation import Optimisation, Plateau
from equiprune.training.recipe import Recipe
from equiprune.training.scan import check_labels, digest
from equiprune.training.signals import StoppedError

NONE = Term(0.0, Square())
HESSIAN_ONLY = Objective(NONE, NONE, hessian=Term(3.0, Norm()), hessian_samples=2)


# Labels.


@pytest.mark.slow
@pytest.mark.parametrize("probes", [Rows(4), RandomProbes(2, seed=3), Rows(100)])
def test_products_are_those_of_the_teacher_also_after_a_file(probes: Probes, tmp_path: Path) -> None:
    """Beside the other labels, for structures of 1 atom too."""
    atom = list(label(parent(), [Atoms("Si", cell=[2.6] * 3, pbc=True)]))
    given_ = [*labelled(), *atom]
    found = list(with_products(parent(), given_, probes, batch_atoms=9))
    ase.io.write(tmp_path / "labelled.extxyz", found, format="extxyz")
    for i, (before, atoms, read) in enumerate(
        zip(given_, found, ep.read_structures(tmp_path / "labelled.extxyz"), strict=True)
    ):
        expected = probes.draw(len(atoms), i)
        matrix = hessian(parent(), before)
        for labels, tolerance in ((Labels.of(atoms), 1e-9), (Labels.of(read), 1e-7)):
            assert labels.hessian is not None
            np.testing.assert_allclose(labels.hessian.vectors, expected, atol=tolerance)
            products = labels.hessian.products.reshape(len(expected), -1)
            np.testing.assert_allclose(products, expected.reshape(len(expected), -1) @ matrix, atol=tolerance * 10)
            np.testing.assert_allclose(labels.forces, Labels.of(before).forces, atol=tolerance)
        assert VECTORS not in before.arrays  # the input is left as it was


def test_new_labels_come_without_the_old_products() -> None:
    [again] = label(student(), probed()[:1])
    assert Labels.of(probed()[0]).hessian is not None
    assert Labels.of(again).hessian is None


def broken(name: str, array: np.ndarray | None) -> Atoms:
    atoms = probed()[0].copy()
    atoms.arrays.pop(name)
    if array is not None:
        atoms.set_array(name, array)
    return atoms


@pytest.mark.parametrize("name", [VECTORS, PRODUCTS])
@pytest.mark.parametrize(
    ("array", "says"),
    [
        (None, "only one of hessian_vectors and hessian_products"),
        (np.zeros((8, 3)), "the same number, 3 for each vector"),
        (np.full((8, 12), math.nan), "not finite"),
        (np.full((8, 12), math.inf), "not finite"),
    ],
)
def test_labels_that_make_no_sense_are_refused_by_name(name: str, array: np.ndarray | None, says: str) -> None:
    atoms = broken(name, array)
    with pytest.raises(StructureError, match=says) as refusal:
        check_labels([atoms], HESSIAN, student().elements, "training")
    assert atoms.get_chemical_formula() in str(refusal.value)


def test_columns_that_are_not_threes_are_refused() -> None:
    atoms = labelled()[0].copy()
    for name in (VECTORS, PRODUCTS):
        atoms.set_array(name, np.zeros((len(atoms), 4)))
    with pytest.raises(StructureError, match="have 4 and 4 columns"):
        Labels.of(atoms)


def test_products_that_are_not_numbers_are_refused() -> None:
    teacher = ep.Potential.create(parent().adapter, parent().checkpoint, torch.float64)
    with torch.no_grad():
        teacher.module.readout_weight.fill_(torch.inf)
    with pytest.raises(StructureError, match=r"^Structure 0 \(C4H4\): the teacher's Hessian is not finite"):
        list(with_products(teacher, labelled(), Rows(1)))


# Whose turn it is.


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_all_vectors_are_used_equally_often(samples: int, stored: int, seed: int, structure: int) -> None:
    turns = [ProbeSubset(samples, seed, structure, epoch).of(stored) for epoch in range(stored)]
    assert all(len(set(turn)) == len(turn) == min(samples, stored) for turn in turns)
    assert set(np.bincount(np.concatenate(turns), minlength=stored)) == {min(samples, stored)}
    assert len(ProbeSubset(samples, seed, structure).of(0)) == 0


def test_structures_take_turns_of_their_own() -> None:
    turns = {tuple(ProbeSubset(3, seed, structure).of(9)) for seed in range(4) for structure in range(4)}
    assert len(turns) > 12


def test_a_batch_has_the_vectors_whose_turn_it_is_and_gaps_for_the_others() -> None:
    structures = [probed()[0], labelled()[1], with_one_vector()]
    data = batch(student(), structures, [ProbeSubset(2, seed=1, structure=i, epoch=3) for i in (5, 6, 7)])
    assert data.targets.vectors.shape == data.targets.hessian.shape == (2, sum(map(len, structures)), 3)
    ends = np.cumsum([len(atoms) for atoms in structures])
    first = Labels.of(structures[0]).hessian
    assert first is not None
    chosen = ProbeSubset(2, 1, 5, 3).of(4)
    np.testing.assert_array_equal(data.targets.vectors[:, : ends[0]], first.vectors[chosen])
    np.testing.assert_array_equal(data.targets.hessian[:, : ends[0]], first.products[chosen])
    known = data.targets.hessian.isfinite().all(-1)
    assert known.all(1).tolist() == [False, False]
    assert known.any(0).tolist() == [True] * ends[0] + [False] * len(structures[1]) + [True] * len(structures[2])
    assert not data.targets.vectors[~known].any()
    assert known[1, ends[1] :].logical_not().all()


def with_one_vector() -> Atoms:
    [atoms] = with_products(parent(), labelled()[2:3], RandomProbes(1))
    return atoms


def test_without_a_turn_there_are_no_vectors() -> None:
    data = batch(student(), probed())
    assert data.targets.vectors.shape == data.targets.hessian.shape == (0, sum(map(len, probed())), 3)


def test_a_digest_sees_the_products_and_is_the_old_one_without() -> None:
    other = HessianProducts(Labels.of(probed()[0]).hessian.vectors, np.zeros((4, 8, 3))).on(probed()[0])
    digests = {digest(everything([atoms])) for atoms in (labelled()[0], probed()[0], other)}
    assert len(digests) == 3
    old = Labels.of(labelled()[0])
    atoms = labelled()[0]
    seen = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, np.array(old.energy), old.forces, old.stress)
    assert digest(everything([atoms])) == digest(seen)


# The objective.


def by_hand(potential: ep.Potential, structures: tuple[Atoms, ...], samples: int, epoch: int = 0) -> float:
    """The published formula, one structure, vector and atom at a time."""
    lengths = []
    for i, atoms in enumerate(structures):
        labels = Labels.of(atoms).hessian
        if labels is not None:
            matrix = hessian(potential, atoms)
            for k in ProbeSubset(samples, RECIPE.seed, i, epoch).of(len(labels.vectors)):
                found = (matrix @ labels.vectors[k].flatten()).reshape(-1, 3)
                lengths += [float(np.sqrt(np.square(d).sum())) for d in found - labels.products[k]]
    return float(np.mean(lengths))


@pytest.mark.slow
def test_the_recorded_loss_is_the_formula(tmp_path: Path) -> None:
    recipe = Recipe(HESSIAN_ONLY, Optimisation(learning_rate=1e-9, clip=None, average=None), epochs=2, batch_size=8)
    structures, held_out = probed()[1::2], probed(1)[2:4]  # one without products, one in vacuum
    run(tmp_path / "run", recipe, structures=structures, validation=held_out)
    for epoch, row in enumerate(rows(tmp_path / "run")):
        assert float(row["train_hessian"]) == pytest.approx(3 * by_hand(student(), structures, 2, epoch), rel=1e-6)
        assert float(row["validation_hessian"]) == pytest.approx(3 * by_hand(student(), held_out, 2), rel=1e-6)
        assert row["train_energy"] == ""


def test_a_difference_of_zero_has_a_gradient_of_zero() -> None:
    """A length has no derivative there."""
    predicted = torch.zeros(2, 3, requires_grad=True)
    Norm()(predicted, torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])).sum().backward()
    assert predicted.grad.tolist() == [[0.0, 0.0, 0.0], [0.0, -1.0, 0.0]]


def test_where_nothing_differs_training_goes_on(tmp_path: Path) -> None:
    """An isolated atom has no curvature, now and ever."""
    structures = [*with_products(parent(), [*label(parent(), [Atoms("O")]), *labelled()[:2]], Rows(3))]
    recipe = Recipe(HESSIAN_ONLY, Optimisation(average=None), epochs=1, batch_size=3)
    after = run(tmp_path / "run", recipe, potential=parent(), structures=structures, validation=())
    assert all(weight.isfinite().all() for weight in after.checkpoint.weights.values())


def test_a_batch_without_any_products_adds_nothing(tmp_path: Path) -> None:
    recipe = replace(RECIPE, objective=HESSIAN_ONLY, epochs=1, batch_size=1)
    run(tmp_path / "run", recipe, structures=[probed()[0], *labelled()[1:3]], validation=())
    assert sorted(float(row["train_hessian"]) > 0 for row in rows(tmp_path / "run")) == [False, False, True]


@pytest.fixture
def trained_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[], nn.Module]:
    """The module inside the last run, with the gradients of its last step."""
    seen: list[nn.Module] = []
    made = trainer.optimizer
    monkeypatch.setattr(trainer, "optimizer", lambda module, *given: seen.append(module) or made(module, *given))
    return lambda: seen[-1]


@pytest.mark.slow
def test_the_gradient_of_a_step_is_that_of_finite_differences(
    trained_module: Callable[[], nn.Module], tmp_path: Path
) -> None:
    """Third derivatives of the energy, two by position and one by weight."""
    structures = probed()[3:6]  # of few atoms each
    recipe = Recipe(HESSIAN_ONLY, Optimisation(clip=None, average=None), epochs=1, batch_size=3)
    run(tmp_path / "run", recipe, structures=structures, validation=())
    step = 1e-5
    for name, parameter in trained_module().named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            index = int(parameter.grad.abs().argmax())
            found = parameter.grad.view(-1)[index].item()
            above, below = (3 * by_hand(moved(name, index, by), structures, 2) for by in (step, -step))
            assert abs(found) > 1e-3, name
            assert found == pytest.approx((above - below) / (2 * step), rel=1e-5), name


def moved(name: str, index: int, by: float) -> ep.Potential:
    """The student with one number changed."""
    weights = dict(student().checkpoint.weights)
    weights[name] = weights[name].double().clone()
    weights[name].view(-1)[index] += by
    return ep.Potential.create(student().adapter, replace(student().checkpoint, weights=weights), torch.float64)


@pytest.mark.slow
def test_without_a_weight_no_second_derivative_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a run is the same, bit by bit, as on structures without products."""
    plain = run(tmp_path / "plain")
    asked: list[int] = []
    exact = predictor.products
    monkeypatch.setattr(predictor, "products", lambda g, p, v, **how: asked.append(len(v)) or exact(g, p, v, **how))
    after = run(tmp_path / "run", structures=probed())
    assert all(torch.equal(w, plain.checkpoint.weights[name]) for name, w in after.checkpoint.weights.items())
    assert rows(tmp_path / "run") == rows(tmp_path / "plain")
    assert not any("hessian" in name for name in rows(tmp_path / "run")[0])
    assert set(asked) == {0}
    run(tmp_path / "weighted", replace(RECIPE, objective=HESSIAN), structures=probed(), validation=())
    assert set(asked) == {0, 1}


def test_old_runs_go_on_as_what_they_were() -> None:
    """Without a weight the Hessian is not mentioned."""
    assert to_json(mace_universal()).keys() == {"kind", "energy", "forces", "stress"}
    described = to_json(HESSIAN_ONLY)
    assert described["hessian"]["weight"] == 3.0
    assert described["hessian_samples"] == 2


@pytest.mark.slow
def test_a_student_learns_the_curvature_of_its_teacher(tmp_path: Path) -> None:
    """On structures that it was not trained on, and better than from forces alone."""
    bare = [atoms for seed in range(3) for atoms in ep.probe_structures([1, 6, 8, 14], seed).values()]
    data = [*with_products(parent(), label(parent(), augmented(bare, Augmentation(copies=1))), Rows(6))]
    held_out = tuple(with_products(parent(), label(parent(), ep.probe_structures([1, 6, 8, 14], 9).values()), Rows(4)))
    without = Objective(Term(1.0, Absolute()), Term(10.0, Norm()))
    errors = []
    for objective in (without, replace(without, hessian=Term(10.0, Norm()))):
        recipe = Recipe(objective, Optimisation(learning_rate=2e-2, schedule=Plateau(0.5, 1)), epochs=12)
        after = run(tmp_path / str(len(errors)), recipe, structures=data, validation=held_out)
        errors.append(by_hand(after, held_out, 4))
    assert errors[1] < 0.8 * errors[0] < 0.5 * by_hand(student(), held_out, 4)


# Stopping and going on.


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    recipe = replace(RECIPE, objective=HESSIAN)
    given_ = {"recipe": recipe, "structures": probed(), "validation": probed(1)[:4]}
    whole = run(tmp_path / "whole", **given_)
    for after in (1, 6, 10):
        folder = tmp_path / str(after)
        with pytest.raises(StoppedError):
            run(folder, progress=signalled(after, signal.SIGTERM), **given_)
        resumed = run(folder, **given_)
        assert all(torch.equal(w, resumed.checkpoint.weights[n]) for n, w in whole.checkpoint.weights.items())
        assert rows(folder) == rows(tmp_path / "whole")
    with pytest.raises(OutputError, match=r"different: recipe\.objective\.hessian_samples"):
        run(tmp_path / "whole", **(given_ | {"recipe": replace(recipe, objective=replace(HESSIAN, hessian_samples=2))}))


# What is refused.


def test_a_weight_without_labels_is_refused() -> None:
    with pytest.raises(StructureError, match=r"label of its hessian.*equiprune label --hessian-rows"):
        check_labels(labelled(), HESSIAN, student().elements, "training")
    check_labels([*labelled(), probed()[0]], HESSIAN, student().elements, "training")


def test_no_samples_are_refused() -> None:
    with pytest.raises(TargetError, match="0 Hessian vectors per step"):
        replace(HESSIAN, hessian_samples=0)


def test_divergence_of_the_hessian_alone_names_the_structures(tmp_path: Path) -> None:
    vectors = 1e308 * np.random.default_rng(0).choice([-1, 1], (1, 8, 3))
    huge = HessianProducts(vectors, np.zeros((1, 8, 3))).on(labelled()[0])
    with pytest.raises(StructureError, match=r"predictions for structure 0 \(C4H4\) for training are not finite"):
        run(tmp_path / "run", replace(RECIPE, objective=HESSIAN), structures=[huge, *probed()[1:3]], validation=())
