"""Derivatives against a model whose own are known: springs to the origin, and a pressure."""

from dataclasses import replace

import pytest
import torch
from ase import Atoms

import equiprune as ep
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.potentials.derivatives import Predictor, differentiated

STIFFNESS, PULL = 3.0, 0.5


def springs(graph: ep.AtomicGraph, taps: Taps) -> Outputs:
    """E = k/2 |h|^2 + p tr(strain) with the places h, seen at twice the size too; its own forces are -2 h."""
    h = taps("places", graph.positions)
    taps("places", 2 * h)
    taps("idle", torch.ones(len(h), 1, dtype=h.dtype))
    own = STIFFNESS / 2 * h.square().sum(1)
    energies = torch.zeros(graph.n_structures, dtype=h.dtype).index_add(0, graph.structure_of_atom, own)
    return Outputs(energies + PULL * graph.strain.diagonal(dim1=1, dim2=2).sum(1), own, -2 * h)


@pytest.fixture
def graph() -> ep.AtomicGraph:
    """A molecule and a crystal of 8 A^3."""
    molecule = Atoms("HO", [[0.1, 0.2, 0.3], [1.0, -1.0, 0.5]])
    crystal = Atoms("Si", [[0.5, 0.25, 0.0]], cell=[2.0, 2.0, 2.0], pbc=True)
    return ep.AtomicGraph.from_structures([molecule, crystal], 3.0, torch.float64)


def test_forces_stress_and_hessian_are_derivatives_of_the_energy(graph: ep.AtomicGraph) -> None:
    vectors = torch.arange(18, dtype=torch.float64).reshape(2, 3, 3)
    found = differentiated(springs, graph, observe=["places", "idle", "missing"], vectors=vectors)
    torch.testing.assert_close(found.energies, STIFFNESS / 2 * torch.tensor([0.14 + 2.25, 0.3125]).double())
    torch.testing.assert_close(found.forces, -STIFFNESS * graph.positions)
    torch.testing.assert_close(found.hessian, STIFFNESS * vectors)
    torch.testing.assert_close(found.stress[1], PULL / 8 * torch.eye(3, dtype=torch.float64))
    assert found.stress[0].tolist() == torch.zeros(3, 3).tolist()  # no volume, no stress; and no NaN
    assert found.features.keys() == {"places", "idle"}
    torch.testing.assert_close(found.features["places"].value, torch.cat([graph.positions, 2 * graph.positions]))
    [slope] = found.features["places"].gradients
    torch.testing.assert_close(slope, torch.cat([STIFFNESS * graph.positions, torch.zeros_like(graph.positions)]))
    assert found.features["idle"].gradients[0].tolist() == [[0.0]] * 3


def test_forces_that_are_an_output_are_taken_as_they_are(graph: ep.AtomicGraph) -> None:
    vectors = torch.ones(2, 3, 3, dtype=torch.float64)
    found = differentiated(springs, graph, observe=["places"], vectors=vectors, direct_forces=True)
    torch.testing.assert_close(found.forces, -2 * graph.positions)
    assert not found.stress.any()
    assert found.hessian.tolist() == torch.zeros(2, 3, 3).tolist()
    of_energy, of_forces = found.features["places"].gradients
    torch.testing.assert_close(of_energy[:3], STIFFNESS * graph.positions)
    torch.testing.assert_close(of_forces[0], of_forces[2])  # the first atom of each structure
    assert not torch.allclose(of_forces[0], of_forces[1])
    plain = differentiated(springs, graph, direct_forces=True)
    assert (plain.features, plain.hessian.shape) == ({}, (0, 3, 3))
    with pytest.raises(TypeError, match="gives forces among its outputs"):
        differentiated(lambda g, taps: replace(springs(g, taps), forces=None), graph, direct_forces=True)


def test_a_predictor_shows_features_and_goes_on_with_given_ones(toy: ep.Potential, structures: list[Atoms]) -> None:
    graph, none = toy.graph(structures), torch.zeros(0, sum(map(len, structures)), 3, dtype=torch.float64)
    made = (toy.adapter, toy.module, toy.architecture, toy.head)
    shown = Predictor(*made, shown=["node_feats.1"])(graph, none)
    features = toy.differentiate(graph, ("node_feats.1",)).features["node_feats.1"].value
    torch.testing.assert_close(shown["node_feats.1"], features)
    assert set(shown) == {"energy", "forces", "stress", "hessian", "atom_energies", "node_feats.1"}
    same, other = (
        Predictor(*made, shown=["node_feats.1"], derived=False)(graph, none, {"node_feats.1": features * factor})
        for factor in (1.0, 0.5)
    )
    torch.testing.assert_close(same["energy"], shown["energy"])
    assert set(same) == {"energy", "atom_energies", "node_feats.1"}
    assert (same["energy"] - other["energy"]).abs().min() > 1e-4
    torch.testing.assert_close(Predictor(*made)(graph, none)["stress"], toy.differentiate(graph).stress)
