"""Weight layouts: the blocks that index each axis of a weight, and the constant it is multiplied by upstream.

A weight is one or more dense *paths*. e3nn stores the paths of a Linear or tensor product one after another in a flat
vector; a plain matrix is a single path. Each path axis is a concatenation of *segments*, and each segment is all
channels of one irrep of one space. Slicing a weight needs nothing else.

``Path.scale`` is the constant that multiplies the stored numbers in the forward pass (e3nn's ``path_weight``, 1 /
sqrt(fan-in) for most). A smaller module has a smaller fan-in and so a larger scale. Slicing keeps the *effective*
weight ``scale * stored``; copying the stored numbers instead is the classic silent bug.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from equiprune.blocks.irreps import Irrep

Numbers = TypeVar("Numbers", Tensor, np.ndarray)


@dataclass(frozen=True)
class Segment:
    """All ``mul`` channels of one irrep of one space, as a stretch of an axis.

    ``use`` tells apart several occurrences of the same channels: a gate scalar repeats the channel it gates with use
    ``gate``, and each tensor-product path repeats its input channels with the path as use. A use that begins with
    `ADDED` is what is added to the channels themselves, where several stretches of one axis make them together. An
    empty ``space`` is a stretch that is never pruned.
    """

    space: str
    irrep: Irrep
    mul: int
    use: str = ""

    @classmethod
    def fixed(cls, size: int) -> Segment:
        """A stretch that every plan keeps."""
        return cls("", Irrep(0, 1), size)

    @classmethod
    def filler(cls) -> Segment:
        """One position that upstream stores where nothing belongs; always zero."""
        return cls("", Irrep(0, 1), 1, _FILLER)

    @property
    def identity(self) -> tuple[str, Irrep, str]:
        """Its identity on the axis, the same in a pruned model."""
        return self.space, self.irrep, self.use

    def __str__(self) -> str:
        channels = f"{self.irrep} of '{self.space}'" if self.space else "a stretch that no plan prunes"
        return f"{channels}, used as '{self.use}'" if self.use else channels

    @property
    def effect(self) -> str:
        """Its use for what becomes of the channels: what is added to them is the channels themselves."""
        return "" if self.use.startswith(ADDED) else self.use

    @property
    def is_filler(self) -> bool:
        """True if nothing belongs here."""
        return self.use == _FILLER


_FILLER = "filler"

ADDED = "+"
"""The first letter of a use that is added to the channels: they are zero only where all that is added is."""

EVERY_L = "every_l"
"""The use of a stretch that stands for the channels of a space whatever their l (it names the first irrep)."""

Axis = tuple[Segment, ...]


def axis_size(axis: Axis) -> int:
    """Length of an axis: its segments laid end to end."""
    return sum(segment.mul for segment in axis)


def spans(axis: Axis) -> Iterator[tuple[Segment, slice]]:
    """Each segment of an axis and where it lies.

    >>> [(segment.space, where) for segment, where in spans((Segment("x", Irrep(0, 1), 2), Segment.fixed(3)))]
    [('x', slice(0, 2, None)), ('', slice(2, 5, None))]
    """
    start = 0
    for segment in axis:
        yield segment, slice(start, start + segment.mul)
        start += segment.mul


T = TypeVar("T")


def _repeated(items: Sequence[T], identity: Callable[[T], Hashable]) -> T | None:
    """The first item that is the same as one before it."""
    seen: set[Hashable] = set()
    for item in items:
        if identity(item) in seen:
            return item
        seen.add(identity(item))
    return None


@dataclass(frozen=True)
class Path:
    """One dense block of a weight.

    Attributes:
        key: identity within the weight, e.g. ``1e->1e``; a pruned model has a subset of its parent's keys.
        axes: one axis per dimension.
        scale: constant multiplying the stored numbers upstream.
        output: the dimension that the weight produces; e3nn's is the last, that of `torch.nn.Linear` the first.
    """

    key: str
    axes: tuple[Axis, ...]
    scale: float = 1.0
    output: int = -1

    def __post_init__(self) -> None:
        for dim, axis in enumerate(self.axes):
            if twice := _repeated(axis, lambda segment: segment.identity):
                raise ValueError(
                    f"Path '{self.key}' has {twice} more than once on axis {dim}, and nothing tells which is which. "
                    "Say what each is used for (Segment.use); stretches that no plan prunes may be one."
                )

    def produces(self, dimension: int) -> bool:
        """True if the weight produces this dimension; the others it reads."""
        return dimension == self.output % len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions of the dense block."""
        return tuple(axis_size(axis) for axis in self.axes)

    @property
    def numel(self) -> int:
        """Numbers stored."""
        return prod(self.shape)


@dataclass(frozen=True)
class WeightLayout:
    """The layout of one parameter.

    Attributes:
        paths: dense blocks in storage order.
        flat: stored as one vector of all paths (e3nn) instead of the shape of the single path.
        trainable: counted as trainable (``requires_grad``) upstream.
        buffer: a constant that upstream registers as a buffer, not a parameter: sliced and stored, never counted.
        identity: what the weight is, where its upstream name has a number that changes when others are removed.

    >>> from equiprune.blocks import Irrep
    >>> a, b = Segment("x", Irrep(0, 1), 4), Segment("y", Irrep(0, 1), 8)
    >>> WeightLayout((Path("0e->0e", ((a,), (b,)), 4**-0.5),)).numel
    32
    """

    paths: tuple[Path, ...]
    flat: bool = True
    trainable: bool = True
    buffer: bool = False
    identity: str = ""

    def __post_init__(self) -> None:
        if twice := _repeated(self.paths, lambda path: path.key):
            raise ValueError(
                f"Two paths have the key '{twice.key}', and nothing tells which of them a pruned model keeps. Give "
                "each a key of its own, one that stays when others go."
            )
        if not self.flat and len(self.paths) != 1:
            raise ValueError(f"A weight of {len(self.paths)} paths has no shape of its own: declare it as flat.")

    @classmethod
    def dense(cls, *axes: Axis, scale: float = 1.0, trainable: bool = True, identity: str = "") -> WeightLayout:
        """An ordinary tensor with one axis per dimension."""
        return cls((Path("", axes, scale),), flat=False, trainable=trainable, identity=identity)

    @classmethod
    def linear(cls, outputs: Axis, inputs: Axis, identity: str = "") -> WeightLayout:
        """The weight of a `torch.nn.Linear`, (out, in): nothing is normalised."""
        return cls((Path("", (outputs, inputs), output=0),), flat=False, identity=identity)

    @classmethod
    def bias(cls, outputs: Axis, identity: str = "") -> WeightLayout:
        """The bias of a `torch.nn.Linear`; a channel without incoming weights but with a bias is not zero."""
        return cls((Path("bias", (outputs,)),), flat=False, identity=identity)

    @classmethod
    def constant(cls, *axes: Axis) -> WeightLayout:
        """A buffer: element-wise numbers such as atomic energies; no axis for a single number."""
        return cls((Path("", axes),), flat=False, trainable=False, buffer=True)

    @property
    def numel(self) -> int:
        """Numbers stored."""
        return sum(path.numel for path in self.paths)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stored tensor."""
        return (self.numel,) if self.flat else self.paths[0].shape

    def split(self, weight: Numbers) -> dict[str, Numbers]:
        """The dense block of every path by its key, in storage order; they share the memory of a contiguous weight.

        >>> x, y = Segment("x", Irrep(0, 1), 2), Segment("y", Irrep(1, -1), 1)
        >>> layout = WeightLayout((Path("0e", ((x,), (x,))), Path("1o", ((y,), (y,)))))
        >>> layout.split(np.arange(5))
        {'0e': array([[0, 1],
               [2, 3]]), '1o': array([[4]])}
        """
        flat, start = weight.reshape(-1), 0
        blocks: dict[str, Numbers] = {}
        for path in self.paths:
            blocks[path.key] = flat[start : start + path.numel].reshape(path.shape)
            start += path.numel
        return blocks

    def join(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """The stored tensor made of the dense block of every path: what `split` takes apart."""
        return torch.cat([blocks[path.key].reshape(-1) for path in self.paths]).reshape(self.shape)
