"""Linear maps of blocks: which columns of the features belong to which channels."""

import torch

from equiprune.blocks import BlockMask, Irrep, Irreps, PruningPlan, Segment
from equiprune.blocks.linear_map import inherited

VECTOR = Irrep(1, -1)


def test_channels_are_found_in_the_entry_they_are_from() -> None:
    """Two entries of one irrep, of different spaces: each keeps its own."""
    masks = {"x": BlockMask(Irreps.parse("2x1o"), ((1,),)), "y": BlockMask(Irreps.parse("3x1o"), ((0, 2),))}

    def entries(x: int, y: int) -> tuple[tuple[Irrep, tuple[Segment, ...]], ...]:
        return tuple((VECTOR, (Segment(name, VECTOR, mul),)) for name, mul in (("x", x), ("y", y)))

    features = torch.arange(15.0)[None]
    left = inherited(features, entries(2, 3), entries(1, 2), PruningPlan(masks), {})
    assert left.tolist() == [[3, 4, 5, 6, 7, 8, 12, 13, 14]]
