"""The loop: its gradients are right, it learns, and its result says how it was made."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import (
    RECIPE,
    SQUARES,
    WEIGHTS,
    assert_same_weights,
    labelled,
    mean_squares,
    moved,
    parent,
    plain,
    rows,
    run,
    student,
    weights_of,
)
from torch import nn

import equiprune as ep
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.label import label
from equiprune.training import trainer
from equiprune.training.optimisation import Linear, Optimisation
from equiprune.training.recipe import Recipe


def loss_by_hand(potential: ep.Potential, structures: Any) -> float:
    return sum(WEIGHTS[name] * value for name, value in mean_squares(potential, structures).items())


# Gradients.


@pytest.fixture
def trained_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[], nn.Module]:
    """The module inside the last run, with the gradients of its last step."""
    seen: list[nn.Module] = []
    made = trainer.optimizer

    def remember(module: nn.Module, *arguments: Any) -> torch.optim.Optimizer:
        seen.append(module)
        return made(module, *arguments)

    monkeypatch.setattr(trainer, "optimizer", remember)
    return lambda: seen[-1]


@pytest.mark.slow
def test_the_gradient_of_a_step_is_that_of_finite_differences(
    trained_module: Callable[[], nn.Module], tmp_path: Path
) -> None:
    """Of energies, forces and stress: third derivatives. Structures without a label, and without a cell, take part."""
    recipe = Recipe(SQUARES, plain(), epochs=1, batch_size=8)
    run(tmp_path / "run", recipe, validation=())
    step, generator = 1e-5, torch.Generator().manual_seed(0)
    for name, parameter in trained_module().named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-4, name
        for index in torch.randint(parameter.numel(), (2,), generator=generator).tolist():
            above, below = (loss_by_hand(moved(student(), name, index, by), labelled()) for by in (step, -step))
            found = parameter.grad.view(-1)[index].item()
            assert found == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-7), (name, index)


def test_the_gradient_is_clipped_to_its_largest_norm(trained_module: Callable[[], nn.Module], tmp_path: Path) -> None:
    gradients = []
    for clip in (None, 0.01):
        run(tmp_path / str(clip), Recipe(SQUARES, plain(clip=clip), epochs=1, batch_size=8))
        found = [p.grad.flatten() for p in trained_module().parameters() if p.grad is not None]
        gradients.append(torch.cat(found))
    free, clipped = gradients
    assert clipped.norm() == pytest.approx(0.01, rel=1e-4)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm())


def test_the_curve_shows_the_losses_worked_out_by_hand(tmp_path: Path) -> None:
    """Of the first step before anything moved; of validation with the weights there were then."""
    after = run(tmp_path / "run", Recipe(SQUARES, plain(), epochs=1, batch_size=8))
    [row] = rows(tmp_path / "run")
    for name, value in mean_squares(student(), labelled()).items():
        assert float(row[f"train_{name}"]) == pytest.approx(WEIGHTS[name] * value)
    for name, value in mean_squares(after, labelled(1)[:4]).items():
        assert float(row[f"validation_{name}"]) == pytest.approx(WEIGHTS[name] * value)


def test_one_step_is_one_step_of_adam(trained_module: Callable[[], nn.Module], tmp_path: Path) -> None:
    """The first one is g / (|g| + 1e-8) times the learning rate, and weight decay as AdamW has it."""
    after = run(tmp_path / "run", Recipe(SQUARES, plain(learning_rate=1e-3, weight_decay=0.1), epochs=1, batch_size=8))
    for name, parameter in trained_module().named_parameters():
        before, g = weights_of(student())[name], parameter.grad
        expected = before if g is None else before * (1 - 1e-3 * 0.1) - 1e-3 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(weights_of(after)[name], expected, rtol=1e-12, atol=1e-12)


# Learning.


@pytest.mark.slow
def test_a_pruned_model_learns_to_be_its_parent(tmp_path: Path) -> None:
    bare = [atoms for seed in range(2) for atoms in ep.probe_structures([1, 6, 8, 14], seed).values()]
    data = list(label(parent(), augmented(bare, Augmentation(copies=2))))
    held_out = list(label(parent(), augmented(ep.probe_structures([1, 6, 8, 14], 7).values(), Augmentation(copies=1))))
    recipe = Recipe(SQUARES, Optimisation(learning_rate=3e-2, schedule=Linear(0.05), average=0.9), 12, batch_size=4)
    after = run(tmp_path / "run", recipe, structures=data, validation=held_out)
    assert loss_by_hand(after, held_out) < loss_by_hand(student(), held_out) / 50
    before, trained = mean_squares(student(), held_out), mean_squares(after, held_out)
    assert all(trained[name] < before[name] / 2 for name in WEIGHTS)


@pytest.mark.slow
def test_the_input_is_left_as_it_was(tmp_path: Path) -> None:
    start = ep.Potential.create(student().adapter, student().checkpoint, torch.float64)
    start.module.readout_weight.requires_grad_(False)
    state = {name: value.clone() for name, value in start.module.state_dict().items()}
    weights = {name: value.clone() for name, value in weights_of(start).items()}
    structures = [atoms.copy() for atoms in labelled()]
    for atoms, original in zip(structures, labelled(), strict=True):
        atoms.calc = original.calc
    after = run(tmp_path / "run", potential=start)
    assert all(torch.equal(state[name], value) for name, value in start.module.state_dict().items())
    assert all(torch.equal(weights[name], value) for name, value in weights_of(start).items())
    assert not start.module.training
    assert all(parameter.grad is None for parameter in start.module.parameters())
    assert not start.module.readout_weight.requires_grad
    assert not torch.equal(weights_of(after)["embedding_weight"], weights["embedding_weight"])


@pytest.mark.slow
def test_the_best_model_is_the_one_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    """Held-out labels are those of the start, from which training leads away: the last model is not the best."""
    held_out = list(label(student(), labelled(1)[:4]))
    recipe = Recipe(SQUARES, plain(learning_rate=1e-2), epochs=8, batch_size=4)
    after = run(tmp_path / "run", recipe, validation=held_out)
    losses = [
        sum(float(row[f"validation_{name}"]) for name in WEIGHTS)
        for row in rows(tmp_path / "run")
        if row["validation_energy"]
    ]
    assert len(losses) == 8
    assert min(losses) < losses[-1]  # or the last one could pass for the best
    assert loss_by_hand(after, held_out) == pytest.approx(min(losses))
    last = ep.load(tmp_path / "run" / "last", dtype=torch.float64)
    assert loss_by_hand(last, held_out) == pytest.approx(losses[-1])
    assert last.checkpoint.history == after.checkpoint.history


def test_without_validation_the_last_average_is_the_result(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    after = run(tmp_path / "run", recipe, validation=())
    assert not (tmp_path / "run" / "last").exists()
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    for name, weight in weights_of(after).items():
        assert torch.equal(weight, state["state"]["average"][name])
    module = state["module"]["module.embedding_weight"]
    assert not torch.equal(module, weights_of(after)["embedding_weight"])


@pytest.mark.slow
def test_the_result_is_written_and_says_how_it_was_made(tmp_path: Path) -> None:
    after = run(tmp_path / "run", fingerprints={"data": "1234"})
    assert_same_weights(after, ep.load(tmp_path / "run" / "model", dtype=torch.float64))
    *before, step = after.checkpoint.history
    assert tuple(before) == student().checkpoint.history
    assert (step["step"], step["steps"], step["recipe"]) == ("train", 12, RECIPE.to_json())
    assert (step["parent"], step["data"]) == (student().checkpoint.source, {"data": "1234"})
    assert ep.load(tmp_path / "run" / "model").checkpoint.history == after.checkpoint.history


@pytest.mark.slow
def test_a_trained_model_is_certified_for_its_physics_only(tmp_path: Path) -> None:
    ep.save(parent(), tmp_path / "parent")
    start = ep.load(tmp_path / "parent", dtype=torch.float64)
    ep.save(ep.prune(start, ep.PruningPlan.nothing()), tmp_path / "child")
    child = ep.load(tmp_path / "child", dtype=torch.float64)
    assert "masked_vs_sliced.energy" in ep.certify(child, start, nve_steps=2).values
    run(tmp_path / "run", replace(RECIPE, epochs=1), potential=child)
    certificate = ep.certify(ep.load(tmp_path / "run" / "model"), start, nve_steps=2)
    assert certificate.passed
    assert {"equivariance.forces", "finite_difference.forces"} < certificate.values.keys()
    assert not [name for name in certificate.values if name.startswith(("masked_vs_sliced", "stored_weights"))]
    assert any("trained after pruning" in note for note in certificate.notes)
