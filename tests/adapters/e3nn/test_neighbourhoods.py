"""Every edge has one place in the order by which sums over neighbours are products of matrices."""

from random import Random

import torch
from hypothesis import given
from hypothesis import strategies as st

from equiprune.adapters.e3nn.neighbourhoods import Neighbourhoods


@given(st.lists(st.integers(0, 12), min_size=1, max_size=20), st.randoms(use_true_random=False), st.integers(1, 40))
def test_every_edge_has_one_place_beside_edges_of_its_atom(counts: list[int], shuffled: Random, places: int) -> None:
    receivers = torch.tensor([atom for atom, count in enumerate(counts) for _ in range(count)], dtype=torch.long)
    shuffled.shuffle(order := list(range(len(receivers))))
    receivers = receivers[order]
    near = Neighbourhoods.of(receivers, torch.arange(len(receivers)) % len(counts), len(counts), places)
    assert torch.equal(near.order[near.place], torch.arange(len(counts)))
    seen = []
    for batch in near.batches:
        assert batch.shape[0] == 1 or len(batch.edges) <= places
        atoms = near.order[batch.atoms].repeat_interleave(batch.shape[1])
        real = batch.targets < len(receivers)
        assert torch.equal(receivers[batch.edges[real]], atoms[real])
        assert torch.equal(batch.edges[real], batch.targets[real])
        assert (batch.present is None) == bool(real.all())
        seen += batch.edges[real].tolist()
    assert sorted(seen) == list(range(len(receivers)))
