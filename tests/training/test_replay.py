"""Which structures are replayed, that they agree with the others, and that less is forgotten."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from runs import RECIPE, everything, labelled, mean_squares, mixed, parent, run, signalled, student

import equiprune as ep
from equiprune.errors import OutputError, StructureError, TargetError
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.label import label
from equiprune.structures.labels import Labels
from equiprune.training.objective import Objective, Square, Term
from equiprune.training.optimisation import Optimisation
from equiprune.training.recipe import Recipe
from equiprune.training.references import Referenced, RefitReferences
from equiprune.training.replay import Replay, relabelled, replay_said
from equiprune.training.scan import digest
from equiprune.training.signals import StoppedError

sizes, owns, epochs, seeds = st.integers(1, 20), st.integers(1, 20), st.integers(0, 5), st.integers(0, 3)
shares = st.floats(0.05, 0.9)


@given(sizes, owns, shares)
def test_the_share_is_that_of_an_epoch(size: int, own: int, share: float) -> None:
    count = Replay([Atoms("C")] * size, share).per_epoch(own)
    assert count >= 1
    assert abs(count - share * (own + count)) <= 1  # to a whole structure


@given(sizes, owns, shares, seeds)
def test_every_structure_is_replayed_before_one_is_again(size: int, own: int, share: float, seed: int) -> None:
    replay = Replay([Atoms("C")] * size, share)
    drawn = [i - own for epoch in range(6) for i in replay.drawn(own, epoch, seed)]
    for start in range(0, len(drawn), size):
        turn = drawn[start : start + size]
        assert len(set(turn)) == len(turn)
        assert set(turn) <= set(range(size))


@given(sizes, owns, epochs, seeds)
def test_what_is_drawn_is_nothing_but_seed_and_epoch(size: int, own: int, epoch: int, seed: int) -> None:
    replay = Replay([Atoms("C")] * size)
    assert replay.drawn(own, epoch, seed) == replay.drawn(own, epoch, seed)


def test_epochs_and_seeds_draw_differently() -> None:
    replay = Replay([Atoms("C")] * 60)
    assert len({tuple(replay.drawn(6, epoch, seed)) for epoch in range(5) for seed in range(5)}) == 25


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(TargetError, match=r"between 0 and 1"):
        Replay((), share)


def test_energies_move_with_the_references_and_nothing_else_does() -> None:
    changes = {1: -1.5, 6: 4.0}
    for atoms, moved in zip(mixed(), relabelled(mixed(), changes), strict=True):
        before, after = Labels.of(atoms), Labels.of(moved)
        if before.energy is None:
            assert after.energy is None
        else:
            expected = -1.5 * (atoms.numbers == 1).sum() + 4.0 * (atoms.numbers == 6).sum()
            assert after.energy == pytest.approx(before.energy + expected)
        np.testing.assert_array_equal(before.forces, after.forces)
        assert (before.stress is None) == (after.stress is None)
        if before.stress is not None:
            np.testing.assert_array_equal(before.stress, after.stress)
        np.testing.assert_array_equal(atoms.positions, moved.positions)
        np.testing.assert_array_equal(atoms.cell.array, moved.cell.array)


def test_labels_at_another_level_agree_after_the_references_moved() -> None:
    """What the parent says of both sets stays true of it when references and replayed labels move together."""
    true = {1: -13.6, 6: -1029.5, 8: 3.25, 14: 0.5}
    done = RefitReferences().apply(parent(), relabelled(labelled(), true))
    replayed = relabelled(labelled(3), done.changes)
    assert mean_squares(done.potential, replayed)["energy"] < 1e-18
    said = replay_said(Replay(replayed), done, 8)
    assert "8 structures in an epoch of 16, out of 8, energies moved with the references" in said
    assert "far from them" not in said
    far = replay_said(Replay(labelled(3)), Referenced(done.potential, {}, ""), 8)
    assert "as they are" in far
    assert "far from them" in far


@pytest.mark.slow
def test_less_is_forgotten_with_replay(tmp_path: Path) -> None:
    """Of crystals that the parent knows, while it learns molecules of another level of theory."""
    objective = Objective(Term(1.0, Square()), Term(10.0, Square()))
    bare = list(ep.probe_structures([1, 6, 8, 14]).values())
    known = list(label(parent(), augmented(bare, Augmentation(copies=3))))
    molecules = [Atoms(numbers=atoms.numbers, positions=0.9 * atoms.positions) for atoms in known]
    other = list(label(parent(), molecules))
    for atoms in other:
        atoms.calc.results |= {name: 1.5 * atoms.calc.results[name] for name in ("energy", "forces")}
    recipe = Recipe(objective, Optimisation(learning_rate=3e-3), epochs=12, batch_size=4)
    errors = {}
    for name, replay in (("without", Replay()), ("with", Replay(known[::2]))):
        after = run(tmp_path / name, recipe, potential=parent(), structures=other, validation=(), replay=replay)
        forgotten, learnt = mean_squares(after, known[1::2]), mean_squares(after, other)
        errors[name] = (forgotten["forces"], learnt["forces"])
    assert errors["with"][0] < errors["without"][0] / 2
    assert errors["with"][1] < 0.7 * mean_squares(parent(), other)["forces"]  # and it has learnt


@pytest.mark.slow
def test_a_run_with_replay_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    replay = Replay(labelled(3)[:3], 0.3)  # 3 beside 8 structures, out of 3: other turns in every epoch
    whole = run(tmp_path / "whole", RECIPE, replay=replay)
    for after in (5, 7):
        with pytest.raises(StoppedError):
            run(tmp_path / "parts", RECIPE, replay=replay, progress=signalled(after, 15))
    parts = run(tmp_path / "parts", RECIPE, replay=replay)
    for name, weight in whole.checkpoint.weights.items():
        assert torch.equal(weight, parts.checkpoint.weights[name])
    assert parts.checkpoint.history[-1]["replay"] == {"share": 0.3, "structures": digest(everything(labelled(3)[:3]))}
    assert parts.checkpoint.history[-1]["steps"] == 18
    for other in (Replay(labelled(3)[:3], 0.4), Replay(labelled(3)[:2], 0.3), Replay()):
        with pytest.raises(OutputError, match="replay"):
            run(tmp_path / "parts", RECIPE, replay=other)


def test_replayed_structures_need_labels_too(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="No structure for replay has a label of its energy"):
        run(tmp_path / "run", replay=Replay([Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]])]))
    assert student().elements >= {6, 8}
