"""Which structures make a batch, and what becomes of their labels."""

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength
from hypothesis import given
from hypothesis import strategies as st
from runs import batch, labelled, student, vacuum

from equiprune.training.batches import groups, order
from equiprune.training.objective import mace_universal
from equiprune.training.recipe import Recipe, steps_of
from equiprune.training.replay import Replay

counts, sizes, epochs, seeds = st.integers(1, 40), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3)


@given(counts, epochs, seeds)
def test_an_order_is_a_permutation_and_nothing_but_seed_and_epoch(count: int, epoch: int, seed: int) -> None:
    assert sorted(order(count, epoch, seed)) == list(range(count))
    assert order(count, epoch, seed) == order(count, epoch, seed)


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    orders = {tuple(order(30, epoch, seed)) for epoch in range(5) for seed in range(5)}
    assert len(orders) == 25


@given(counts, sizes, epochs, seeds)
def test_one_process_sees_every_structure_once_an_epoch(count: int, size: int, epoch: int, seed: int) -> None:
    found = groups(count, size, epoch, seed)
    assert [i for group in found for i in group] == order(count, epoch, seed)
    assert all(len(group) == size for group in found[:-1])
    assert 1 <= len(found[-1]) <= size


@given(counts, sizes, epochs, seeds, st.integers(2, 5))
def test_ranks_share_the_batches_of_one_process(count: int, size: int, epoch: int, seed: int, ranks: int) -> None:
    whole = groups(count, size, epoch, seed)
    shares = [groups(count, size, epoch, seed, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1  # or one rank would wait for another forever
    rounds = [group for together in zip(*shares, strict=True) for group in together]
    assert rounds == whole[: len(whole) // ranks * ranks]
    seen = [i for group in rounds for i in group]
    assert len(seen) == len(set(seen)) > count - ranks * size


@given(counts, sizes, epochs, st.integers(1, 5), st.integers(0, 9))
def test_the_steps_of_a_run_are_known_before(count: int, size: int, epochs: int, ranks: int, known: int) -> None:
    """Also with structures that are replayed, and with rounds that do not fill."""
    replay = Replay([Atoms("H")] * known)
    replayed = replay.per_epoch(count)
    recipe = Recipe(mace_universal(), epochs=epochs + 1, batch_size=size)
    steps = sum(
        len(groups(count, size, epoch, 0, replayed=replay.drawn(count, epoch, 0), ranks=ranks))
        for epoch in range(recipe.epochs)
    )
    assert steps_of(recipe, count, replayed, ranks) == steps


# Labels as tensors.


def test_labels_become_tensors_of_the_potential() -> None:
    data = batch(student(), labelled())
    assert data.targets.energy.dtype == data.targets.forces.dtype == data.targets.stress.dtype == torch.float64
    assert data.graph.n_structures == 8
    assert data.names == tuple(atoms.get_chemical_formula() for atoms in labelled())
    start = 0
    for i, atoms in enumerate(labelled()):
        results = atoms.calc.results
        assert data.targets.energy[i] == results["energy"] if i != 6 else data.targets.energy[i].isnan()
        np.testing.assert_array_equal(data.targets.forces[start : start + len(atoms)], results["forces"])
        if i == 7:
            assert data.targets.stress[i].isnan().all()
        else:
            xx, yy, zz, yz, xz, xy = results["stress"]
            np.testing.assert_array_equal(data.targets.stress[i], [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        start += len(atoms)


def test_without_forces_their_place_is_kept() -> None:
    structures = [atoms.copy() for atoms in labelled()[:3]]
    structures[1].calc = SinglePointCalculator(structures[1], forces=np.ones((len(structures[1]), 3)))
    data = batch(student().with_dtype(torch.float32), structures)
    known = data.targets.forces.isfinite().all(-1)
    assert known.tolist() == (data.graph.structure_of_atom == 1).tolist()
    assert data.targets.forces.dtype == torch.float32
    assert data.targets.energy.isnan().all()
    assert data.targets.stress.isnan().all()


def test_fixed_atoms_are_told_from_free_ones() -> None:
    structures = [atoms.copy() for atoms in labelled()[:3]]
    structures[1].set_constraint([FixAtoms([0]), FixBondLength(0, 1)])
    found = batch(student(), structures).targets.fixed
    assert found.nonzero().flatten().tolist() == [len(structures[0])]


def test_named_labels_come_before_calculator_results() -> None:
    [atoms] = [labelled()[0].copy()]
    atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    atoms.info["REF_energy"] = 2.0
    assert batch(student(), [atoms]).targets.energy.tolist() == [2.0]


def test_a_molecule_has_no_stress_whatever_its_file_says() -> None:
    molecule = vacuum(labelled()[7])
    molecule.info["REF_stress"] = np.ones((3, 3))
    assert batch(student(), [molecule]).targets.stress.isnan().all()
