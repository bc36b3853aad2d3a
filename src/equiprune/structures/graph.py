"""Structures as tensors: atoms, edges and the leaves that forces and stress are derivatives of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import numpy as np
import torch
import vesin
from ase import Atoms
from ase.geometry import complete_cell
from torch import Tensor

from equiprune.errors import StructureError
from equiprune.structures.geometry import unworkable
from equiprune.structures.global_inputs import GlobalInput, numbers_of

_CLOSEST = 1e-6
"""Angstrom: nearer than this, two atoms have no direction from one to the other."""


@dataclass(frozen=True)
class Neighbours:
    """The edges of one structure.

    Attributes:
        pairs: centre i and neighbour j, shape (2, edges).
        images: the cell that j is in, counted in lattice vectors from the home cell; shape (edges, 3).
    """

    pairs: np.ndarray
    images: np.ndarray


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
    global_inputs         (structures, inputs)    what the model reads of a whole structure; most read nothing
    ====================  ======================  =========================================================
    """

    numbers: Tensor
    positions: Tensor
    strain: Tensor
    edge_index: Tensor
    shifts: Tensor
    structure_of_atom: Tensor
    volume: Tensor
    global_inputs: Tensor

    @classmethod
    def from_structures(
        cls,
        structures: Sequence[Atoms],
        cutoff: float,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        max_neighbors: int | None = None,
        inputs: Sequence[GlobalInput] = (),
    ) -> AtomicGraph:
        """Neighbour lists (see `neighbours`), concatenated over structures."""
        graphs = [cls.of(atoms, neighbours(atoms, cutoff, max_neighbors), dtype, inputs) for atoms in structures]
        return cls.concatenated(graphs).to(device)

    @classmethod
    def of(cls, atoms: Atoms, near: Neighbours, dtype: torch.dtype, inputs: Sequence[GlobalInput] = ()) -> AtomicGraph:
        """One structure with the neighbours it has, and the global inputs that a model reads.

        Raises:
            StructureError: a global input that is not allowed.
        """

        def real(values: np.ndarray) -> Tensor:
            return torch.tensor(np.ascontiguousarray(values), dtype=dtype)

        return cls(
            numbers=torch.tensor(atoms.numbers),
            positions=real(atoms.positions),
            strain=torch.zeros(1, 3, 3, dtype=dtype),
            edge_index=torch.tensor(near.pairs),
            shifts=real(near.images @ atoms.cell.array),
            structure_of_atom=torch.zeros(len(atoms), dtype=torch.long),
            volume=real(np.array([atoms.cell.volume if atoms.pbc.all() else np.nan])),
            global_inputs=real(numbers_of(atoms, inputs)[None]),
        )

    @classmethod
    def concatenated(cls, graphs: Sequence[AtomicGraph]) -> AtomicGraph:
        """Graphs side by side: atoms and structures are numbered through."""
        atoms = accumulate((len(graph.numbers) for graph in graphs[:-1]), initial=0)
        structures = accumulate((graph.n_structures for graph in graphs[:-1]), initial=0)
        edges = [graph.edge_index + start for graph, start in zip(graphs, atoms, strict=True)]
        owners = [graph.structure_of_atom + start for graph, start in zip(graphs, structures, strict=True)]
        return cls(
            numbers=torch.cat([graph.numbers for graph in graphs]),
            positions=torch.cat([graph.positions for graph in graphs]),
            strain=torch.cat([graph.strain for graph in graphs]),
            edge_index=torch.cat(edges, dim=1),
            shifts=torch.cat([graph.shifts for graph in graphs]),
            structure_of_atom=torch.cat(owners),
            volume=torch.cat([graph.volume for graph in graphs]),
            global_inputs=torch.cat([graph.global_inputs for graph in graphs]),
        )

    def summed(self, of_atoms: Tensor) -> Tensor:
        """Values of atoms (atoms,) added up over each structure in float64, (structures,)."""
        total = torch.zeros(self.n_structures, dtype=torch.float64, device=of_atoms.device)
        return total.index_add(0, self.structure_of_atom, of_atoms.double())

    def to(self, device: torch.device | str) -> AtomicGraph:
        """The same graph elsewhere."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def n_structures(self) -> int:
        """Structures in the batch."""
        return self.strain.shape[0]

    @property
    def structure_of_edge(self) -> Tensor:
        """Number of the structure of each edge, shape (edges,)."""
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


def neighbours(atoms: Atoms, cutoff: float, max_neighbors: int | None = None) -> Neighbours:
    """All pairs within ``cutoff`` (Angstrom), or of each centre the nearest ``max_neighbors`` only.

    Raises:
        StructureError: two atoms are at the same place, or no list can be made (`equiprune.structures.geometry`).
    """
    if why := unworkable(atoms):
        raise StructureError(f"{atoms.get_chemical_formula() or 'A structure without atoms'} {why}.")
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    centre, neighbour, images, distances = finder.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=atoms.pbc, quantities="ijSd"
    )
    if len(distances) and distances.min() < _CLOSEST:
        i = int(distances.argmin())
        raise StructureError(
            f"Atoms {centre[i]} and {neighbour[i]} of {atoms.get_chemical_formula()} are at the same place. Remove one."
        )
    pairs, images = np.stack([centre, neighbour]).astype(np.int64), images.reshape(-1, 3).astype(float)
    if max_neighbors is None:
        return Neighbours(pairs, images)
    vectors = atoms.positions[neighbour] - atoms.positions[centre] + images @ atoms.cell.array
    kept = _nearest(pairs[0], distances, vectors, max_neighbors)
    return Neighbours(pairs[:, kept], images[kept])


_STEPS_PER_ANGSTROM = 1e5 * np.pi / 3
"""Nearer than a step, rounding must not choose between two neighbours. Irrational: coordinates of crystals must not lie
between two steps.
"""


def _nearest(centre: np.ndarray, distances: np.ndarray, vectors: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the edges to the ``count`` nearest neighbours of each centre, in their order.

    Of neighbours at the same distance the direction decides, which neither translation nor the order of atoms changes.

    >>> x = np.array([2.0, 1.0, 3.0, 9.0])
    >>> _nearest(np.array([0, 0, 0, 1]), x, np.outer(x, [1, 0, 0]), 2)
    array([0, 1, 3])
    """
    a, b, c = (vectors * _STEPS_PER_ANGSTROM).round().T
    by_distance = np.lexsort((a, b, c, (distances * _STEPS_PER_ANGSTROM).round(), centre))
    rank = np.arange(len(centre)) - np.searchsorted(centre[by_distance], centre[by_distance])
    return np.sort(by_distance[rank < count])


def coinciding(atoms: Atoms) -> tuple[int, int] | None:
    """Two different atoms at the same place, images included, as `neighbours` would refuse them; None if all are apart.

    A tree of fractional coordinates: a neighbour list with so small a cutoff takes 30 ms to make its cells.
    """
    if len(atoms) < 2:
        return None
    from scipy.spatial import cKDTree  # slow to import, and only needed here

    cell = atoms.cell.array if atoms.pbc.all() else complete_cell(atoms.cell.array * atoms.pbc[:, None])
    inverse = np.linalg.inv(cell)
    fractions = atoms.positions @ inverse
    wrapped = np.where(atoms.pbc, fractions % 1.0, fractions - fractions.min(0))
    wrapped[atoms.pbc & (wrapped >= 1.0)] = 0.0  # what -1e-17 % 1.0 is
    tree = cKDTree(wrapped, boxsize=atoms.pbc.astype(float))
    pairs = tree.query_pairs(_CLOSEST * np.linalg.norm(inverse, 2), output_type="ndarray")
    apart = wrapped[pairs[:, 0]] - wrapped[pairs[:, 1]]
    lengths = np.linalg.norm((apart - np.round(apart) * atoms.pbc) @ cell, axis=1)
    found = pairs[lengths < _CLOSEST]
    return (int(found[:, 0].min()), int(found[found[:, 0].argmin(), 1])) if len(found) else None
