"""Derivatives of the energy, differentiable in the weights: products of the Hessian, and the module that is trained.

Derivatives are part of that module's forward pass, as distributed training needs: its hooks see one forward and one
backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from equiprune.potentials.potential import Potential
from equiprune.structures.graph import AtomicGraph


class Predictor(nn.Module):
    """The module of a potential with energies, forces, stress and Hessian products as its output."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.module = potential.module
        self.adapter: Any = potential.adapter
        self.architecture, self.head = potential.architecture, potential.head

    def forward(self, graph: AtomicGraph, vectors: Tensor) -> dict[str, Tensor]:
        """Energy (structures,) eV, forces (atoms, 3) eV/Angstrom, stress (structures, 3, 3) eV/Angstrom^3.

        Stress is zero for a structure that is not periodic in 3-D, and where forces are an output of their own. With
        ``vectors``, (vectors, atoms, 3), also the products of the Hessian with them, in eV/Angstrom^2; no vectors cost
        nothing.
        """
        if self.adapter.direct_forces:
            return self._direct(graph, vectors)
        graph = graph.with_leaves()
        with torch.enable_grad():
            energies = self.adapter.energies(self.module, self.architecture, graph, self.head, {})
            by_position, by_strain = torch.autograd.grad(
                energies.sum(),
                [graph.positions, graph.strain],
                create_graph=self.training or len(vectors) > 0,
                allow_unused=True,
                materialize_grads=True,
            )
            hessian = products(by_position, graph.positions, vectors, create_graph=self.training)
        # Zero where there is no volume, and with a zero gradient: NaN would reach the weights through 0 * NaN.
        volume = graph.volume.nan_to_num(nan=torch.inf)
        stress = by_strain / volume[:, None, None]
        return {"energy": energies, "forces": -by_position, "stress": stress, "hessian": hessian}

    def _direct(self, graph: AtomicGraph, vectors: Tensor) -> dict[str, Tensor]:
        energies, forces = self.adapter.energies_and_forces(self.module, self.architecture, graph, self.head, {})
        return {
            "energy": energies,
            "forces": forces,
            "stress": torch.zeros_like(graph.strain),
            "hessian": torch.zeros_like(vectors),
        }


def products(gradient: Tensor, positions: Tensor, vectors: Tensor, *, create_graph: bool = False) -> Tensor:
    """H v for each vector, one backward pass each; (vectors, atoms, 3) eV/Angstrom^2.

    Args:
        gradient: dE/dr, (atoms, 3), with its graph.
        positions: (atoms, 3), the leaf.
        vectors: (vectors, atoms, 3).
        create_graph: keep what a derivative of the products needs, for training.
    """
    if not len(vectors) or not gradient.requires_grad:  # no forces at all where there are no edges
        return torch.zeros_like(vectors)
    found = [
        torch.autograd.grad(
            gradient,
            positions,
            vector,
            create_graph=create_graph,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )[0]
        for vector in vectors
    ]
    return torch.stack(found)
