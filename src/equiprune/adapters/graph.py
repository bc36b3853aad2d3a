"""Structures as tensors: atoms, edges and the leaves that forces and stress are derivatives of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import vesin
from ase import Atoms
from torch import Tensor

from equiprune.errors import StructureError

_CLOSEST = 1e-6
"""Angstrom: nearer than this, two atoms have no direction from one to the other."""


@dataclass(frozen=True)
class AtomicGraph:
    """A batch of structures within a cutoff.

    ====================  ======================  =========================================================
    field                 shape                   meaning
    ====================  ======================  =========================================================
    numbers               (atoms,)                atomic numbers
    positions             (atoms, 3)              Angstrom
    strain                (structures, 3, 3)      zero; a leaf for the stress
    edge_index            (2, edges)              centre i and neighbour j of each edge
    shifts                (edges, 3)              lattice vector from the home image to j's image, Angstrom
    structure_of_atom     (atoms,)                which structure an atom belongs to
    volume                (structures,)           Angstrom^3; nan where the structure is not periodic in 3-D
    ====================  ======================  =========================================================
    """

    numbers: Tensor
    positions: Tensor
    strain: Tensor
    edge_index: Tensor
    shifts: Tensor
    structure_of_atom: Tensor
    volume: Tensor

    @classmethod
    def from_structures(
        cls, structures: Sequence[Atoms], cutoff: float, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> AtomicGraph:
        """Neighbour lists within ``cutoff`` (Angstrom), concatenated over structures."""
        edges, shifts, start = [], [], 0
        for atoms in structures:
            pairs, shift = _neighbours(atoms, cutoff)
            edges.append(pairs + start)
            shifts.append(shift)
            start += len(atoms)
        sizes = torch.tensor([len(atoms) for atoms in structures])

        def real(values: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), dtype=dtype, device=device)

        return cls(
            numbers=torch.as_tensor(np.concatenate([a.numbers for a in structures]), device=device),
            positions=real(np.concatenate([a.positions for a in structures])),
            strain=torch.zeros(len(structures), 3, 3, dtype=dtype, device=device),
            edge_index=torch.as_tensor(np.concatenate(edges, axis=1), device=device),
            shifts=real(np.concatenate(shifts)),
            structure_of_atom=torch.repeat_interleave(torch.arange(len(structures)), sizes).to(device),
            volume=real(np.array([a.cell.volume if a.pbc.all() else np.nan for a in structures])),
        )

    @property
    def n_structures(self) -> int:
        """Structures in the batch."""
        return self.strain.shape[0]

    @property
    def structure_of_edge(self) -> Tensor:
        """Which structure an edge belongs to, shape (edges,)."""
        return self.structure_of_atom[self.edge_index[0]]

    def with_leaves(self) -> AtomicGraph:
        """The same graph whose positions and strain collect gradients."""
        return replace(
            self,
            positions=self.positions.detach().requires_grad_(),
            strain=self.strain.detach().requires_grad_(),
        )

    def edge_vectors(self) -> Tensor:
        """r_j - r_i, strained symmetrically; (edges, 3), Angstrom."""
        centre, neighbour = self.edge_index
        vectors = self.positions[neighbour] - self.positions[centre] + self.shifts
        symmetric = 0.5 * (self.strain + self.strain.transpose(-1, -2))
        return vectors + torch.einsum("ei,eij->ej", vectors, symmetric[self.structure_of_edge])


def _neighbours(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    centre, neighbour, images, distances = finder.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=atoms.pbc, quantities="ijSd"
    )
    if len(distances) and distances.min() < _CLOSEST:
        i = int(distances.argmin())
        raise StructureError(
            f"Atoms {centre[i]} and {neighbour[i]} of {atoms.get_chemical_formula()} are at the same place. Remove one."
        )
    pairs = np.stack([centre, neighbour]).astype(np.int64)
    return pairs, images.reshape(-1, 3).astype(float) @ atoms.cell.array
