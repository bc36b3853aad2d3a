"""Edges in the order in which sums over neighbours are one matrix product for each atom.

Atoms with equally many neighbours can be one batch of products. Atoms are ordered by that number and taken a few at a
time, so that what belongs to their edges stays in the cache of a processor; one that has fewer neighbours than others
of its batch gets empty places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some atoms and the places of their neighbours.

    Attributes:
        atoms: rows of `Neighbourhoods.order`.
        shape: (atoms, places of each).
        edges: (places,) the edge in each place; the first of all edges where there is none.
        targets: (places,) the same, but the number of all edges where there is none: a row to write and forget.
        senders: (atoms, 1, places of each) the atom at the other end.
        present: (places, 1) whether there is an edge; None if there is one in every place.
    """

    atoms: slice
    shape: tuple[int, int]
    edges: Tensor
    targets: Tensor
    senders: Tensor
    present: Tensor | None


@dataclass(frozen=True)
class Neighbourhoods:
    """The edges of a graph by the atoms that receive.

    Attributes:
        order: (atoms,) by falling number of neighbours.
        place: (atoms,) of each atom in that order.
        batches: of all atoms that have a neighbour.
    """

    order: Tensor
    place: Tensor
    batches: tuple[Batch, ...]

    @classmethod
    def of(cls, receivers: Tensor, senders: Tensor, atoms: int, places: int) -> Neighbourhoods:
        """The neighbourhoods of edges (edges,) between so many atoms, so many places or one atom a batch."""
        counts = torch.bincount(receivers, minlength=atoms)
        order = counts.argsort(stable=True, descending=True)
        sorted_counts, by_receiver = counts[order], receivers.argsort(stable=True)
        first = (counts.cumsum(0) - counts)[order]
        batches = []
        for rows, most in _spans(sorted_counts.tolist(), places):
            number = torch.arange(most)
            present = number < sorted_counts[rows, None]
            edges = by_receiver[torch.where(present, first[rows, None] + number, 0)]
            targets = torch.where(present, edges, len(receivers))
            whole = bool(present.all())
            batches.append(
                Batch(
                    rows,
                    (len(edges), most),
                    edges.flatten(),
                    targets.flatten(),
                    senders[edges].unsqueeze(1),
                    None if whole else present.view(-1, 1),
                )
            )
        return cls(order, order.argsort(), tuple(batches))


def _spans(counts: Sequence[int], places: int) -> Iterator[tuple[slice, int]]:
    """Rows of a falling sequence and the first number of each; zeros are left out.

    >>> list(_spans([300, 200, 200, 4, 0], 1024))
    [(slice(0, 1, None), 300), (slice(1, 3, None), 200), (slice(3, 4, None), 4)]
    """
    start, end = 0, sum(count > 0 for count in counts)
    while start < end:
        stop = min(start + max(places // counts[start], 1), end)
        # An atom with far fewer neighbours begins a batch of its own: empty places cost as much as others.
        stop = next((row for row in range(start + 1, stop) if 4 * counts[row] < 3 * counts[start]), stop)
        yield slice(start, stop), counts[start]
        start = stop
