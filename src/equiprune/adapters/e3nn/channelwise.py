"""A channel-wise tensor product, e3nn's ``uvu`` with a weight for every channel, as plain data.

Path p takes channel u of an input of degree l1, spherical harmonics of degree l2, and gives one channel of degree l3:

    output[u, m3] = weight[p, u] * sum_m1 (sum_m2 C[m1, m2, m3] harmonics[m2]) input[u, m1]

C is e3nn's ``wigner_3j`` times the constant of the path (e3nn/o3/_tensor_product/_codegen.py). The inner sum knows no
channels. The paths of one input have their m3 one after another, so that one matrix gives the inner sums of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

_NUMBERS = 2**18
"""Numbers of one input in a batch of neighbours: fewer take more calls of torch, more outgrow a cache of megabytes."""


@dataclass(frozen=True)
class Path:
    """One (l1, l2, l3).

    Attributes:
        number: of the path; its weights, one for each channel, come after those of the paths before it.
        output: number of its entry in the output.
        orders: number of m3, 2 l3 + 1.
    """

    number: int
    output: int
    orders: int


@dataclass(frozen=True)
class Input:
    """Channels of one degree, and the paths that read them.

    Attributes:
        columns: of the features; each channel's m1 are neighbours.
        mul: number of channels.
        dim: of a channel, 2 l1 + 1.
        coupling: (m3 of all paths, m1, columns of the harmonics), float64.
        paths: in the order of their m3 in ``coupling``.
    """

    columns: slice
    mul: int
    dim: int
    coupling: Tensor
    paths: tuple[Path, ...]

    @cached_property
    def orders(self) -> list[int]:
        """Numbers of m3 of its paths."""
        return [path.orders for path in self.paths]


@dataclass(frozen=True)
class ChannelwiseProduct:
    """A tensor product of features and spherical harmonics.

    Attributes:
        inputs: those that a path reads.
        widths: number of weights of each path.
        outputs: number of columns of each entry of the output; of a path's, each channel's m3 are neighbours.
    """

    inputs: tuple[Input, ...]
    widths: list[int]
    outputs: list[int]

    @property
    def places(self) -> int:
        """Neighbours in a batch: the more, the narrower the widest input is."""
        return max(1, _NUMBERS // max(own.mul * own.dim for own in self.inputs))

    @classmethod
    def of(cls, product: Any) -> ChannelwiseProduct | None:
        """The data of an ``e3nn.o3.TensorProduct``; None if it is anything but channel-wise with a weight per channel.

        A second operand of several channels, two paths into one output, and an accelerated kernel in the place of
        e3nn's class, are such other things.
        """
        from e3nn.o3 import TensorProduct

        if not isinstance(product, TensorProduct):
            return None
        paths = product.instructions
        own = all(path.connection_mode == "uvu" and path.has_weight for path in paths)
        single = all(mul == 1 for mul, _ in product.irreps_in2)
        apart = len({path.i_out for path in paths}) == len(paths)
        if not (paths and own and single and apart):
            return None
        outputs = [entry.dim for entry in product.irreps_out]
        return cls(tuple(_inputs(product)), [path.path_shape[0] for path in paths], outputs)


def _inputs(product: Any) -> Iterator[Input]:
    columns = product.irreps_in1.slices()
    for i, (mul, irrep) in enumerate(product.irreps_in1):
        own = [(number, path) for number, path in enumerate(product.instructions) if path.i_in1 == i and mul]
        if own:
            couplings = [_coupling(product, path) for _, path in own]
            paths = [Path(number, path.i_out, len(c)) for (number, path), c in zip(own, couplings, strict=True)]
            yield Input(columns[i], mul, irrep.dim, torch.cat(couplings), tuple(paths))


def _coupling(product: Any, path: Any) -> Tensor:
    """(m3, m1, columns of the harmonics), float64; zero for the harmonics that the path does not read."""
    from e3nn.o3 import wigner_3j

    first, second = product.irreps_in1[path.i_in1].ir, product.irreps_in2[path.i_in2].ir
    third = product.irreps_out[path.i_out].ir
    coupling = torch.zeros(third.dim, first.dim, product.irreps_in2.dim, dtype=torch.float64)
    columns = product.irreps_in2.slices()[path.i_in2]
    coefficients = wigner_3j(first.l, second.l, third.l, dtype=torch.float64).permute(2, 0, 1)
    coupling[..., columns] = coefficients * path.path_weight
    return coupling
