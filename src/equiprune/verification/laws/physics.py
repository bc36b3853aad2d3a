"""Physics: of the parent, of what pruning leaves, and where there is hardly anything to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from ase import Atoms
from numpy.random import default_rng

from equiprune.potentials.derivatives import Derivatives
from equiprune.potentials.potential import Potential, Prediction
from equiprune.pruning.slicing import prune
from equiprune.structures.graph import AtomicGraph
from equiprune.verification.laws.agreement import (
    assert_equivariant,
    assert_forces_are_gradients,
    assert_within_limits,
    different_bits,
)
from equiprune.verification.laws.contract import Contract
from equiprune.verification.physics import batch_independence
from equiprune.verification.random_plans import random_plan
from equiprune.verification.second_derivatives import assert_second_derivatives

_ROUNDING = 1e-9
"""eV and eV/Angstrom: more than two orders of a sum differ by in float64, less than anything physical."""


class PhysicsLaws(Contract):
    """Laws of physics, which any potential obeys."""

    def test_physics_before_and_after_pruning(self) -> None:
        """Parent and child are equivariant, conservative, and independent of what else is in the batch.

        Where rotations are not exact, `equiprune certify` compares the child with its parent.
        """
        for potential in self.potentials():
            pruned = prune(potential, random_plan(potential, default_rng(4)))
            for which, model in (("the parent", potential), ("the pruned model", pruned)):
                structures = self.structures(model.elements)
                assert_equivariant(model, structures, law=f"the frame shows in predictions of {which}")
                if not potential.direct_forces:
                    assert_forces_are_gradients(model, structures, law=f"forces are no gradients in {which}")
                law = f"the rest of the batch shows in predictions of {which}"
                assert_within_limits(batch_independence(model, structures), model, law=law)

    def test_second_derivatives_are_those_of_the_forces(self) -> None:
        """Hessian products, and their derivatives in the weights, against finite differences: they can be taught."""
        for potential in self.potentials():
            if potential.direct_forces:
                continue
            small = sorted(self.structures(potential.elements), key=len)[:2]  # third derivatives take their time
            assert_second_derivatives(potential, small, law="second derivatives are not those of the forces")

    def test_evaluating_changes_nothing(self) -> None:
        """Structures, graph and weights are what they were, and a second evaluation gives the same bits."""
        for potential in self.potentials():
            structures = self.structures(potential.elements)
            copies = [atoms.copy() for atoms in structures]
            graph = potential.graph(structures)
            held = {name: tensor.clone() for name, tensor in potential.module.state_dict().items()}
            was = _tensors(graph, copy=True)
            first, second = (potential.differentiate(graph) for _ in range(2))
            same = not different_bits(_predicted(first), _predicted(second))
            assert same, "a second evaluation gives other bits"
            changed = different_bits(was, _tensors(graph))
            assert not changed, f"evaluating changes its input: {changed} of the graph"
            potential.predict(structures)
            assert structures == copies, "evaluating changes its input: the structures"
            changed = different_bits(held, dict(potential.module.state_dict()))
            assert not changed, f"evaluating changes the model: {changed}"

    def test_the_order_of_edges_means_nothing(self) -> None:
        """Neighbour lists come in any order."""
        for potential in self.potentials():
            graph = potential.graph(self.structures(potential.elements))
            order = torch.randperm(graph.edge_index.shape[1], generator=torch.Generator().manual_seed(0))
            mixed = replace(graph, edge_index=graph.edge_index[:, order], shifts=graph.shifts[order])
            a, b = potential.differentiate(graph), potential.differentiate(mixed)
            energies, forces = _largest(a.energies - b.energies), _largest(a.forces - b.forces)
            assert energies < _ROUNDING, f"energies depend on the order of edges: by {energies} eV"
            assert forces < _ROUNDING, f"forces depend on the order of edges: by {forces} eV/Angstrom"

    def test_what_is_far_apart_adds_up(self) -> None:
        """The energy of two clusters beyond each other's reach is the sum of theirs, and neither feels the other."""
        for potential in self.potentials():
            one, other = (_cluster(atoms) for atoms in self.structures(potential.elements)[:2])
            far = other.copy()
            far.positions += one.positions.max(axis=0) - other.positions.min(axis=0) + 3 * potential.architecture.cutoff
            a, b, both = potential.predict([one, far, one + far])
            apart = _largest(both.energy - a.energy - b.energy)
            assert apart < _ROUNDING, f"energies of what is far apart do not add up: by {apart} eV"
            felt = _largest(both.forces - torch.cat([a.forces, b.forces]))
            assert felt < _ROUNDING, f"what is far apart feels each other: by {felt} eV/Angstrom"

    def test_an_isolated_atom_and_a_single_atom_cell_feel_no_force(self) -> None:
        """Zero forces where there are no edges at all, and where an atom sees only its own images."""
        for potential in self.potentials():
            number, length = min(potential.elements), 0.7 * potential.architecture.cutoff
            alone = Atoms(numbers=[number], positions=[[0.1, 0.2, 0.3]])
            crystal = Atoms(numbers=[number], positions=[[0.1, 0.2, 0.3]], cell=[length] * 3, pbc=True)
            for atoms, prediction in zip((alone, crystal), potential.predict([alone, crystal]), strict=True):
                assert prediction.energy.isfinite(), f"a single atom has no finite energy: {atoms}"
                assert prediction.forces.isfinite().all(), f"a single atom has no finite forces: {atoms}"
                if potential.architecture.exact_rotations:
                    assert _largest(prediction.forces) < _ROUNDING, f"a single atom feels a force: {atoms}"
                has_stress = atoms.pbc.all() and not potential.direct_forces
                assert prediction.stress.isfinite().all() == has_stress, f"a single atom has the wrong stress: {atoms}"

    def test_energies_of_atoms_sum_to_the_energy(self) -> None:
        """Every atom has its share of the energy, whatever else is in the batch."""
        for potential in self.potentials():
            structures = self.structures(potential.elements)
            for atoms, prediction in zip(structures, potential.predict(structures), strict=True):
                shares = prediction.atom_energies
                assert shares.shape == (len(atoms),), f"not every atom has a share of the energy: {tuple(shares.shape)}"
                apart = _largest(shares.sum() - prediction.energy)
                assert apart < _ROUNDING, f"energies of atoms do not sum to the energy: {apart} eV for {atoms.symbols}"

    def test_vacuum_is_the_same_as_no_periodicity(self) -> None:
        """A slab periodic in two directions is the slab with more than a cutoff of vacuum."""
        for potential in self.potentials():
            a, b = _slabs(potential, self.structures(potential.elements))
            energies = max(_largest(x.energy - y.energy) for x, y in zip(a, b, strict=True))
            assert energies < _ROUNDING, f"energies depend on periodicity across a vacuum: by {energies} eV"
            forces = max(_largest(x.forces - y.forces) for x, y in zip(a, b, strict=True))
            assert forces < _ROUNDING, f"forces depend on periodicity across a vacuum: by {forces} eV/Angstrom"


def _largest(difference: torch.Tensor) -> float:
    """NaN where anything is NaN, which passes no limit."""
    return float(difference.abs().max())


def _predicted(result: Derivatives) -> dict[str, torch.Tensor]:
    """The predicted tensors."""
    return {"energies": result.energies, "forces": result.forces, "stress": result.stress}


def _tensors(graph: AtomicGraph, *, copy: bool = False) -> dict[str, torch.Tensor]:
    found = {field.name: getattr(graph, field.name).detach() for field in fields(graph)}
    return {name: tensor.clone() for name, tensor in found.items()} if copy else found


def _cluster(atoms: Atoms) -> Atoms:
    """The same atoms without a cell."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions)


def _slabs(potential: Potential, structures: Sequence[Atoms]) -> tuple[list[Prediction], list[Prediction]]:
    """Each structure with a vacuum along its third direction: periodic across it, and not."""
    padded, slabs = [], []
    for atoms in structures:
        with_vacuum = atoms.copy()
        with_vacuum.center(vacuum=potential.architecture.cutoff, axis=2)
        slab = with_vacuum.copy()
        slab.pbc = (True, True, False)
        padded.append(with_vacuum)
        slabs.append(slab)
    return potential.predict(padded), potential.predict(slabs)
