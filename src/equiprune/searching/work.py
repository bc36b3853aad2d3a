"""Work of an architecture: numbers that its time and memory grow with, counted on layouts and spaces.

A weight that maps channels of degree l is multiplied 2l + 1 times for each row. A path of a channel-wise tensor product
makes ``mul (2 l + 1)`` numbers for each edge from ``mul`` weights and is a call of its own. What one of these costs
depends on the machine, the precision and the code that runs it; `equiprune.searching.cost_model` fits that to
measurements.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from equiprune.adapters import ModelAdapter
from equiprune.blocks import WeightLayout
from equiprune.blocks.layout import Path, Segment

CONSTANT = "constant"
"""Kind of work that every model has once."""

_PRODUCT = re.compile(r"(\d+)[eo]\*(\d+)[eo]->(\d+)[eo]")
"""Use of channels in a tensor product: input, harmonics, output."""


def work(adapter: ModelAdapter, architecture: Any, *, each: bool = False) -> Mapping[str, float]:
    """Amounts of work by kind, none negative; weights of one name in all interactions are of one kind.

    Args:
        adapter: of the architecture.
        architecture: what is asked about; nothing is built.
        each: weights of each interaction are of a kind of their own. A price for each predicts no better
            (docs/results.md, from a budget).

    >>> from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
    >>> amounts = work(ToyAdapter(), ToyArchitecture(elements=(1, 8), cutoff=4.0, hidden_irreps=("6x0e", "5x0e")))
    >>> amounts["linear_up__weight multiplications"], amounts["node_feats numbers"]  # 6 * 6, 6 + 5
    (36, 11)
    """
    totals: Counter[str] = Counter({CONSTANT: 1})
    for name, layout in adapter.layouts(architecture).items():
        if not layout.buffer:
            identity = layout.identity or name
            for kind, amount in _of_weight(identity if each else _without_number(identity), layout):
                totals[kind] += amount
    for space in adapter.spaces(architecture):
        totals[f"{space.role} numbers"] += space.irreps.dim
    return dict(totals)


def _without_number(name: str) -> str:
    """The name of a weight without its first number, that of the interaction.

    >>> _without_number("3_convolution.weight_nn.layer0.weight"), _without_number("products.1.0e.order.3")
    ('_convolution.weight_nn.layer0.weight', 'products..0e.order.3')
    """
    return re.sub(r"\d+", "", name, count=1)


def _of_weight(name: str, layout: WeightLayout) -> Iterator[tuple[str, int]]:
    for path in layout.paths:
        yield f"{name} multiplications", path.numel * _degree_dim(path)
        for segment in path.axes[path.output] if path.axes else ():
            if found := _PRODUCT.fullmatch(segment.use):
                before, harmonics, after = (2 * int(degree) + 1 for degree in found.groups())
                yield f"{name} messages", segment.mul * after
                yield f"{name} weights of messages", segment.mul
                yield f"{name} couplings", segment.mul * before * harmonics * after
                yield f"{name} paths", 1


def _degree_dim(path: Path) -> int:
    """Rows of features that a path maps for each atom or edge: 2l + 1; 1 for gates and path weights."""
    made: Segment | None = next(iter(path.axes[path.output]), None) if path.axes else None
    return 1 if made is None or made.effect else made.irrep.dim
