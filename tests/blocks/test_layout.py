"""Layouts: what cannot be told apart is refused, and a weight taken apart is put together again."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equiprune import Irrep, WeightLayout
from equiprune.blocks import Path, Segment
from equiprune.blocks.layout import Axis, axis_size, spans

SCALAR, VECTOR = Irrep(0, 1), Irrep(1, -1)
SEGMENTS = st.builds(Segment, st.sampled_from("xyz"), st.sampled_from([SCALAR, VECTOR]), st.integers(0, 4))
AXES = st.lists(SEGMENTS, max_size=3, unique_by=lambda segment: segment.identity).map(tuple)
PATHS = st.lists(st.tuples(AXES, AXES), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("axis", "named"),
    [
        ((Segment("x", SCALAR, 4), Segment("x", SCALAR, 4)), "0e of 'x'"),
        ((Segment.fixed(2), Segment("x", SCALAR, 4), Segment.fixed(2)), "a stretch that no plan prunes"),
        ((Segment("x", VECTOR, 4, "gate"), Segment("x", VECTOR, 3, "gate")), "1o of 'x', used as 'gate'"),
    ],
    ids=["space", "fixed", "use"],
)
def test_what_is_twice_on_an_axis_is_refused(axis: Axis, named: str) -> None:
    """The first two were sliced wrongly without a word: (5, 7, 5, 7) was kept of the one, (6, 7) of the other."""
    with pytest.raises(ValueError, match=f"Path '0e' has {named} more than once on axis 1"):
        WeightLayout((Path("0e", ((Segment.fixed(3),), axis)),))


def test_the_same_channels_in_another_use_are_no_duplicate() -> None:
    axis = (Segment("x", SCALAR, 4), Segment("x", SCALAR, 4, "gate"), Segment("x", VECTOR, 4), Segment("y", SCALAR, 4))
    assert WeightLayout.dense(axis, axis).shape == (16, 16)


def test_two_paths_of_one_key_are_refused() -> None:
    a, b = (Path("0e:x", ((Segment(name, SCALAR, 2),),)) for name in "xy")
    with pytest.raises(ValueError, match=r"Two paths have the key '0e:x'.*key of its own"):
        WeightLayout((a, b))


@pytest.mark.parametrize("paths", [(), (Path("a", ()), Path("b", ()))])
def test_only_a_single_path_has_a_shape_of_its_own(paths: tuple[Path, ...]) -> None:
    with pytest.raises(ValueError, match="declare it as flat"):
        WeightLayout(paths, flat=False)


@given(PATHS)
def test_a_weight_taken_apart_is_put_together_again(axes: list[tuple[Axis, Axis]]) -> None:
    layout = WeightLayout(tuple(Path(str(i), pair) for i, pair in enumerate(axes)))
    weight = torch.arange(float(layout.numel))
    blocks = layout.split(weight)
    assert {key: tuple(block.shape) for key, block in blocks.items()} == {path.key: path.shape for path in layout.paths}
    assert torch.equal(layout.join(blocks), weight)
    assert torch.equal(layout.join(dict(reversed(blocks.items()))), weight)
    for key, block in layout.split(weight.numpy()).items():
        assert np.array_equal(block, blocks[key].numpy())


def test_a_dense_weight_keeps_its_shape() -> None:
    layout = WeightLayout.linear((Segment("y", SCALAR, 2),), (Segment("x", SCALAR, 3),))
    weight = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(layout.split(weight)[""], weight)
    assert torch.equal(layout.join({"": weight}), weight)


def test_blocks_are_parts_of_the_weight() -> None:
    """Whoever writes into a block writes into the weight."""
    x, y = Segment("x", SCALAR, 2), Segment("y", VECTOR, 3)
    layout = WeightLayout((Path("0e", ((x,), (x,))), Path("1o", ((y,), (y,)))))
    weight = torch.zeros(layout.numel)
    layout.split(weight)["1o"][1, 2] = 1
    assert weight.nonzero().flatten().tolist() == [4 + 3 + 2]


@given(AXES)
def test_spans_lie_end_to_end(axis: Axis) -> None:
    found = list(spans(axis))
    assert tuple(segment for segment, _ in found) == axis
    assert all(where.stop - where.start == segment.mul for segment, where in found)
    assert all(a.stop == b.start for (_, a), (_, b) in pairwise(found))
    assert not found or (found[0][1].start, found[-1][1].stop) == (0, axis_size(axis))
