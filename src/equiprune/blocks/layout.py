"""Which blocks index which axis of a weight, and the constant it is multiplied by upstream.

A weight is one or more dense *paths*. e3nn stores the paths of a Linear or tensor product one after another in a flat
vector; a plain matrix is a single path. Each path axis is a concatenation of *segments*, and each segment is all
channels of one irrep of one space. Slicing a weight needs nothing else.

``Path.scale`` is the constant that multiplies the stored numbers in the forward pass (e3nn's ``path_weight``, 1 /
sqrt(fan-in) for most). A smaller module has a smaller fan-in and so a larger scale. Slicing keeps the *effective*
weight ``scale * stored``; copying the stored numbers instead is the classic silent bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from equiprune.blocks.irreps import Irrep


@dataclass(frozen=True)
class Segment:
    """All ``mul`` channels of one irrep of one space, as a stretch of an axis.

    ``use`` tells apart several occurrences of the same channels: a gate scalar repeats the channel it gates with use
    ``gate``, and each tensor-product path repeats its input channels with the path as use. An empty ``space`` is a
    stretch that is never pruned.
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
    def is_filler(self) -> bool:
        """Whether nothing belongs here."""
        return self.use == _FILLER


_FILLER = "filler"

EVERY_L = "every_l"
"""The use of a stretch that stands for the channels of a space whatever their l (it names the first irrep)."""

Axis = tuple[Segment, ...]


def axis_size(axis: Axis) -> int:
    """Length of an axis: its segments laid end to end."""
    return sum(segment.mul for segment in axis)


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

    def produces(self, dimension: int) -> bool:
        """Whether a dimension is what the weight produces; the others are what it reads."""
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
