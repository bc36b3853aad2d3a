"""Graphs: neighbours against ASE's own lists, and edge vectors under strain."""

import ase.neighborlist
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from equiprune import AtomicGraph
from equiprune.errors import StructureError

CUTOFF = 4.0


def slab() -> Atoms:
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.pbc = (True, True, False)
    atoms.positions += np.random.default_rng(0).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


def chain() -> Atoms:
    return Atoms("CO", positions=[[0, 0, 0], [0, 0.3, 1.2]], cell=[0, 0, 2.5], pbc=(False, False, True))


def skewed() -> Atoms:
    cell = [[2.5, 0, 0], [2.0, 1.9, 0], [-1.0, 1.1, 2.2]]
    return Atoms("HC", scaled_positions=[[0.1, 0.2, 0.9], [1.6, -0.4, 0.3]], cell=cell, pbc=True)


STRUCTURES = {
    "crystal": bulk("Si", "diamond", a=5.43),
    "slab": slab(),
    "chain": chain(),
    "molecule": molecule("CH3CH2OH"),
    "skewed cell smaller than the cutoff, atoms outside of it": skewed(),
    "isolated atom": Atoms("H"),
}


def edges(graph: AtomicGraph) -> np.ndarray:
    """Rows (centre, neighbour, vector), sorted."""
    rows = np.column_stack([graph.edge_index.T.numpy(), graph.edge_vectors().numpy()]).round(9) + 0.0
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("atoms", STRUCTURES.values(), ids=STRUCTURES)
def test_neighbours_are_those_of_ase(atoms: Atoms) -> None:
    i, j, vectors = ase.neighborlist.neighbor_list("ijD", atoms, CUTOFF)
    expected = np.column_stack([i, j, vectors]).round(9) + 0.0
    expected = expected[np.lexsort(expected.T[::-1])]
    np.testing.assert_allclose(edges(AtomicGraph.from_structures([atoms], CUTOFF, torch.float64)), expected, atol=2e-9)


def test_a_batch_is_its_structures_side_by_side() -> None:
    structures = list(STRUCTURES.values())
    batch = AtomicGraph.from_structures(structures, CUTOFF, torch.float64)
    assert batch.n_structures == len(structures)
    for k, atoms in enumerate(structures):
        alone = AtomicGraph.from_structures([atoms], CUTOFF, torch.float64)
        of_atom, of_edge = batch.structure_of_atom == k, batch.structure_of_edge == k
        start = int(of_atom.nonzero()[0])
        assert torch.equal(batch.numbers[of_atom], torch.as_tensor(atoms.numbers))
        assert torch.equal(batch.edge_index[:, of_edge], alone.edge_index + start)
        assert torch.equal(batch.edge_vectors()[of_edge], alone.edge_vectors())


@pytest.mark.parametrize("name", ["crystal", "slab", "molecule"])
def test_strain_moves_edges_as_it_moves_the_cell(name: str) -> None:
    generator = np.random.default_rng(1)
    strain = 1e-3 * generator.normal(size=(3, 3))
    symmetric = (strain + strain.T) / 2
    strained = STRUCTURES[name].copy()
    strained.positions = strained.positions @ (np.eye(3) + symmetric)
    strained.cell[:] = strained.cell.array @ (np.eye(3) + symmetric)
    graph = AtomicGraph.from_structures([STRUCTURES[name]], CUTOFF, torch.float64)
    graph.strain[:] = torch.as_tensor(strain)
    expected = AtomicGraph.from_structures([strained], CUTOFF, torch.float64)
    np.testing.assert_allclose(edges(graph), edges(expected), atol=1e-8)


def test_volume_exists_only_in_three_periodic_dimensions() -> None:
    volume = AtomicGraph.from_structures(list(STRUCTURES.values()), CUTOFF, torch.float32).volume
    periodic = torch.tensor([bool(atoms.pbc.all()) for atoms in STRUCTURES.values()])
    assert torch.equal(volume.isfinite(), periodic)
    assert volume[0].item() == pytest.approx(5.43**3 / 4)


def test_leaves_collect_gradients_and_leave_the_graph_alone() -> None:
    graph = AtomicGraph.from_structures([slab()], CUTOFF, torch.float64)
    leaves = graph.with_leaves()
    leaves.edge_vectors().square().sum().backward()
    assert leaves.positions.grad is not None
    assert leaves.strain.grad is not None
    assert leaves.strain.grad.abs().max() > 1
    assert not graph.positions.requires_grad


def test_atoms_at_the_same_place_are_refused() -> None:
    for atoms in (
        Atoms("HO", positions=np.zeros((2, 3))),
        Atoms("OH", positions=[[0, 0, 0], [0, 0, 3]], cell=[3] * 3, pbc=True),
    ):
        with pytest.raises(StructureError, match="at the same place"):
            AtomicGraph.from_structures([atoms], CUTOFF, torch.float64)
