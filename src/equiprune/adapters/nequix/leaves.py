"""The arrays of a ``.nqx`` file in their order, and the flat weights of Nequix's torch model made of them.

A ``.nqx`` holds the leaves of upstream's JAX model: fields in the order of its classes, and the matrices of a linear
map by their names as text (``e3nn_jax.equinox.Linear``). The torch model has one vector for all matrices of a linear
map, in e3nn's order. Numbers are the same in both (nequix/torch_impl/utils.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from equiprune.adapters.nequix.architecture import NequixArchitecture
from equiprune.adapters.nequix.layouts import weight_layouts
from equiprune.blocks import WeightLayout

ENERGIES = "atom_energies"
"""The first array, and the buffer of that name: eV by element."""

_PARTS = ("radial_mlp", "linear_1", "linear_2", "skip", "layer_norm")
"""Parts of a layer in the order of the fields of ``NequixConvolution`` (nequix/model.py)."""


@dataclass(frozen=True)
class Leaf:
    """One array of a file.

    Attributes:
        weight: the torch weight that it is part of.
        start: the first of its numbers among those of that weight.
        shape: of the array.
    """

    weight: str
    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in the array."""
        return prod(self.shape)


def leaves(arch: NequixArchitecture) -> tuple[Leaf, ...]:
    """Every array of a model in the order of the file.

    >>> from equiprune.adapters.nequix.architecture import NequixArchitecture
    >>> arch = NequixArchitecture(
    ...     elements=(1, 8), cutoff=5.0, hidden_irreps="4x0e+2x1o", layers=1, first_channels=2, edge_lmax=1,
    ...     radial_basis=8, radial_width=16, radial_layers=1, radial_power=6.0, radial_init_scale=4.0,
    ...     average_neighbors=20.0, scale=1.0, shift=0.0, layer_norm=True,
    ... )
    >>> [leaf.shape for leaf in leaves(arch)]  # energies, radial network, linear_1, linear_2, skip, norm, readout
    [(2,), (8, 16), (16, 2), (2, 2), (2, 4), (2, 4), (4,), (4, 1)]
    """
    layouts = weight_layouts(arch)
    return tuple(leaf for name in _in_file(arch, layouts) for leaf in _of_weight(name, layouts[name]))


def to_weights(arch: NequixArchitecture, arrays: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """The torch weights by name, of the arrays that `leaves` lists; `to_arrays` is the inverse."""
    parts: dict[str, list[tuple[int, np.ndarray]]] = {}
    for leaf, array in zip(leaves(arch), arrays, strict=True):
        parts.setdefault(leaf.weight, []).append((leaf.start, array.ravel()))
    return {
        name: torch.from_numpy(np.concatenate([array for _, array in sorted(parts[name], key=lambda p: p[0])])).reshape(
            layout.shape
        )
        for name, layout in weight_layouts(arch).items()
    }


def to_arrays(arch: NequixArchitecture, weights: Mapping[str, Tensor]) -> Iterator[np.ndarray]:
    """The arrays that `leaves` lists, of the torch weights, in the precision of those."""
    for leaf in leaves(arch):
        numbers = weights[leaf.weight].detach().cpu().numpy().ravel()
        yield np.ascontiguousarray(numbers[leaf.start : leaf.start + leaf.size]).reshape(leaf.shape)


def _in_file(arch: NequixArchitecture, layouts: Mapping[str, WeightLayout]) -> Iterator[str]:
    """Names of weights in the order of the file; of one part, in the order of the layouts."""
    yield ENERGIES
    for t in range(arch.layers):
        for part in _PARTS:
            yield from (name for name in layouts if name.startswith(f"layers.{t}.{part}."))
    yield "readout.weight"


def _of_weight(name: str, layout: WeightLayout) -> Iterator[Leaf]:
    """The blocks of a linear map, whose names begin with the number of the input: of text, 10 comes before 2."""
    starts = [sum(path.numel for path in layout.paths[:k]) for k in range(len(layout.paths))]
    for k in sorted(range(len(layout.paths)), key=lambda k: f"{k},"):
        yield Leaf(name, starts[k], layout.paths[k].shape)
