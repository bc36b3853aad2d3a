"""Labelled structures on a device, and batches of one shape made of them: a recorded step can be replayed on those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.batched import Outputs
from benchmarks.gpu.explore import Labelled
from equiprune import AtomicGraph

_CALM = 0.5
"""eV/Angstrom: a structure whose forces are of this size (root mean square) weighs half of one at rest."""
_FAR = 0.98
"""Length of the edges that fill up a batch, in cutoffs: they join atoms that are no structure's, and next to nothing
passes along them.
"""


@dataclass(frozen=True)
class Shape:
    """Rows of every batch: what structures leave free is filled up with atoms and edges that count for nothing."""

    atoms: int
    edges: int
    structures: int


@dataclass(frozen=True)
class Batch:
    """Structures with their labels, filled up to a shape.

    ``atom_weight`` (atoms,) and ``structure_weight`` (structures,) are zero for what fills up.
    """

    graph: AtomicGraph
    label: Outputs
    sizes: Tensor
    atom_weight: Tensor
    structure_weight: Tensor


class Pool:
    """Labelled structures on their device, any of which make a batch."""

    def __init__(self, labelled: Labelled, cutoff: float) -> None:
        crystals, self.edges, self.cutoff = labelled.crystals, labelled.edges, cutoff
        self.device = crystals.positions.device
        self.numbers, self.positions, self.cells = crystals.numbers, crystals.positions, crystals.cells
        self.labels = (labelled.energy, labelled.atomic_energy, labelled.forces, labelled.stress)
        self.volumes = torch.linalg.det(self.cells).abs()
        self.n_atoms, self.n_edges = crystals.sizes, labelled.edges.counts
        self.first_atom = self.n_atoms.cumsum(0) - self.n_atoms
        self.first_edge = self.n_edges.cumsum(0) - self.n_edges
        # Here too, since asking the device for them would wait for it.
        self.atom_counts, self.edge_counts = self.n_atoms.tolist(), self.n_edges.tolist()
        self.filler = int(self.numbers[0])
        self.weights = self._weights()

    def __len__(self) -> int:
        return len(self.atom_counts)

    def _weights(self) -> Tensor:
        """Of each structure, (structures,): less where forces are large, or what shakes violently would decide."""
        forces = self.labels[2]
        owner = torch.repeat_interleave(torch.arange(len(self), device=self.device), self.n_atoms)
        squares = forces.new_zeros(len(self)).index_add_(0, owner, forces.square().mean(1))
        return 1 / (1 + (squares / self.n_atoms).sqrt() / _CALM)

    def shape(self, atoms: int) -> Shape:
        """Room for about ``atoms`` atoms and as many edges as such batches have."""
        dense = 1.05 * sum(self.edge_counts) / sum(self.atom_counts)
        most = int(max(atoms, max(self.atom_counts) + 1))
        edges = max(int(most * dense), max(self.edge_counts) + 1)
        return Shape(most, -(-edges // 256) * 256, max(8, int(2.5 * most * len(self) / sum(self.atom_counts))))

    def batch(self, which: Sequence[int], shape: Shape | None = None) -> Batch:
        """Some structures and their labels, filled up to a shape if one is given; does not wait for the device."""
        atoms, edges = sum(self.atom_counts[i] for i in which), sum(self.edge_counts[i] for i in which)
        shape = shape or Shape(atoms, edges, len(which))
        chosen = torch.tensor(which).to(self.device, non_blocking=True)
        sizes = self.n_atoms[chosen]
        owner, atom = _rows(self.first_atom[chosen], sizes, atoms)
        edge_owner, edge = _rows(self.first_edge[chosen], self.n_edges[chosen], edges)
        steps = self.edges.images[edge].to(self.cells.dtype)
        shifts = torch.einsum("ei,eij->ej", steps, self.cells[chosen][edge_owner])
        pairs = self.edges.pairs[:, edge].long() + (sizes.cumsum(0) - sizes)[edge_owner]
        energy, atomic, forces, stress = self.labels
        # Structures that fill up: the last one has all atoms that fill up; the others have none.
        free_atoms, free_edges, last = shape.atoms - atoms, shape.edges - edges, shape.structures - 1
        far = shifts.new_tensor([[_FAR * self.cutoff, 0.0, 0.0]], device=self.device).expand(free_edges, 3)
        fill = atoms + torch.arange(free_edges, device=self.device) % max(1, free_atoms)
        weight = self.weights[chosen]
        return Batch(
            graph=AtomicGraph(
                numbers=_filled(self.numbers[atom], shape.atoms, self.filler),
                positions=_filled(self.positions[atom], shape.atoms),
                strain=self.positions.new_zeros(shape.structures, 3, 3),
                edge_index=torch.cat([pairs, fill.expand(2, -1)], 1),
                shifts=torch.cat([shifts, far]),
                structure_of_atom=_filled(owner, shape.atoms, last),
                volume=_filled(self.volumes[chosen], shape.structures, 1.0),
                global_inputs=self.positions.new_zeros(shape.structures, 0),
            ),
            label=Outputs(
                _filled(energy[chosen], shape.structures),
                _filled(atomic[atom], shape.atoms),
                _filled(forces[atom], shape.atoms),
                _filled(stress[chosen], shape.structures),
            ),
            sizes=_filled(sizes, shape.structures, 1),
            atom_weight=_filled(weight[owner], shape.atoms),
            structure_weight=_filled(weight, shape.structures),
        )

    def epochs(self, shape: Shape, seed: int) -> Iterator[list[int]]:
        """Batches that fit a shape, epoch after epoch, for ever."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield from self.batches(shape, torch.randperm(len(self), generator=generator).tolist())

    def batches(self, shape: Shape, order: Sequence[int]) -> Iterator[list[int]]:
        """Batches that fit a shape, in an order."""
        batch, atoms, edges = [], 0, 0
        for i in order:
            # One atom stays free for the edges that fill up, and one structure for that atom.
            full = atoms + self.atom_counts[i] >= shape.atoms or edges + self.edge_counts[i] > shape.edges
            if full or len(batch) + 1 == shape.structures:
                yield batch
                batch, atoms, edges = [], 0, 0
            batch.append(i)
            atoms, edges = atoms + self.atom_counts[i], edges + self.edge_counts[i]
        yield batch


def _rows(first: Tensor, counts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Rows of structures that lie one after another from ``first`` on: whose each is, and its number among all."""
    device = first.device
    owner = torch.repeat_interleave(torch.arange(len(counts), device=device), counts, output_size=total)
    return owner, torch.arange(total, device=device) + (first - (counts.cumsum(0) - counts))[owner]


def _filled(values: Tensor, rows: int, with_value: float = 0) -> Tensor:
    free = values.new_full((rows - len(values), *values.shape[1:]), with_value)
    return torch.cat([values, free])
