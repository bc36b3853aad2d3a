"""Hessian products on the toy: against finite differences, alone and in batches, and what probes are drawn."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

import equiprune as ep
from equiprune.errors import StructureError, TargetError
from equiprune.potentials.hessian import Probes, RandomProbes, Rows, hessian, hessian_vector_products

KINDS = [Rows, RandomProbes]


def differences(potential: ep.Potential, atoms: Atoms, step: float = 1e-4) -> np.ndarray:
    """The Hessian from central differences of forces, one coordinate at a time."""
    columns = []
    for i in range(3 * len(atoms)):
        moved = [atoms.copy(), atoms.copy()]
        for copy, sign in zip(moved, (1, -1), strict=True):
            copy.positions.flat[i] += sign * step
        above, below = (prediction.forces.numpy().flatten() for prediction in potential.predict(moved))
        columns.append(-(above - below) / (2 * step))
    return np.stack(columns, axis=1)


@pytest.mark.slow
def test_a_hessian_is_minus_the_slope_of_the_forces(toy: ep.Potential, structures: list[Atoms]) -> None:
    for atoms in structures:
        found = hessian(toy, atoms)
        assert abs(found).max() > 0.1  # eV/Angstrom^2: there is something to compare
        np.testing.assert_allclose(found, differences(toy, atoms), atol=1e-6 * abs(found).max())
        np.testing.assert_allclose(found, found.T, atol=1e-10)
        np.testing.assert_allclose(found.reshape(-1, len(atoms), 3).sum(axis=1), 0, atol=1e-10)


@pytest.mark.slow
def test_products_are_those_of_the_whole_hessian(toy: ep.Potential, structures: list[Atoms]) -> None:
    """In one batch and in several, with as many vectors for each structure as it likes."""
    vectors = [np.random.default_rng(i).standard_normal((i, len(a), 3)) for i, a in enumerate(structures)]
    for batch_atoms in (1, 7, 10**6):
        found = hessian_vector_products(toy, structures, vectors, batch_atoms)
        for atoms, its, product in zip(structures, vectors, found, strict=True):
            expected = its.reshape(len(its), 3 * len(atoms)) @ hessian(toy, atoms)
            np.testing.assert_allclose(product, expected.reshape(its.shape), atol=1e-10)


@pytest.mark.slow
def test_a_masked_model_has_the_hessian_of_the_sliced_one(toy: ep.Potential, structures: list[Atoms]) -> None:
    plan = ep.allocate(toy, [ep.Channels(4)], ep.data_free_scores(toy, ep.Random(1)))
    masked, sliced = (hessian(model, structures[0]) for model in (ep.masked(toy, plan), ep.prune(toy, plan)))
    np.testing.assert_allclose(masked, sliced, atol=1e-10)
    assert not np.allclose(masked, hessian(toy, structures[0]), atol=1e-2)


def test_an_isolated_atom_has_none(toy: ep.Potential) -> None:
    np.testing.assert_array_equal(hessian(toy, Atoms("O")), np.zeros((3, 3)))


def test_vectors_of_another_shape_are_refused(toy: ep.Potential, structures: list[Atoms]) -> None:
    for shape in ((3,), (1, 2), (len(structures[0]), 3), (2, len(structures[0]) + 1, 3)):
        with pytest.raises(StructureError, match=f"Vectors for {structures[0].get_chemical_formula()} are"):
            hessian_vector_products(toy, structures[:1], [np.zeros(shape)])


# Probes.


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 3))
def test_rows_are_coordinates_none_of_them_twice(count: int, atoms: int, seed: int) -> None:
    rows = Rows(count, seed).draw(atoms, structure=4).reshape(-1, 3 * atoms)
    assert len(rows) == min(count, 3 * atoms)
    assert ((rows == 1).sum(axis=1) == 1).all()
    assert abs(rows).sum() == len(rows)
    assert rows.sum(axis=0).max() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_probes_are_those_of_seed_and_structure(kind: type[Probes]) -> None:
    drawn = [kind(5, seed).draw(4, structure) for seed in range(3) for structure in range(3)]
    assert all(vectors.shape == (5, 4, 3) for vectors in drawn)
    assert all(np.linalg.norm(vectors, axis=(1, 2)) == pytest.approx(1) for vectors in drawn)
    assert not any(np.array_equal(a, b) for a, b in pairwise(drawn))
    np.testing.assert_array_equal(drawn[5], kind(5, 1).draw(4, 2))


def test_both_kinds_see_the_same_mean_square(toy: ep.Potential, structures: list[Atoms]) -> None:
    """That over all rows: random vectors are scaled so that weights mean the same for both."""
    matrix = hessian(toy, structures[2])
    size = len(matrix)
    rows = np.square(Rows(size).draw(size // 3, 0).reshape(-1, size) @ matrix).sum(axis=1)
    assert rows.mean() == pytest.approx(np.square(matrix).sum() / size)
    drawn = np.square(RandomProbes(20000).draw(size // 3, 0).reshape(-1, size) @ matrix).sum(axis=1)
    uncertain = drawn.std() / len(drawn) ** 0.5
    assert uncertain < 0.01 * rows.mean()
    assert drawn.mean() == pytest.approx(rows.mean(), abs=4 * uncertain)


@pytest.mark.parametrize("kind", KINDS)
def test_no_vectors_are_refused(kind: type[Probes]) -> None:
    with pytest.raises(TargetError, match="0 vectors per structure are not possible"):
        kind(0)


@pytest.mark.slow
def test_products_have_the_precision_of_the_model(toy: ep.Potential, structures: list[Atoms]) -> None:
    exact, rounded = hessian(toy, structures[0]), hessian(toy.with_dtype(torch.float32), structures[0])
    np.testing.assert_array_equal(rounded, rounded.astype(np.float32))
    assert 0 < abs(rounded - exact).max() < 1e-4 * abs(exact).max()
