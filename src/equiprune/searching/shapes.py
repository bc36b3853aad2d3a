"""Shapes: what a model can lose besides channels, as targets that combine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from equiprune.blocks import FeatureSpace, Role
from equiprune.pruning.counts import PruningProblem
from equiprune.pruning.targets import BasisLmax, Correlation, EdgeLmax, Interactions, Lmax, RadialWidth, Target

Shape = tuple[Target, ...]
"""Targets besides widths; an empty one is the shape of the parent."""


def shapes(model: PruningProblem, keep_lmax: int = 0) -> list[Shape]:
    """Shapes that a search tries, those that lose least first.

    Hidden features and spherical harmonics lose their highest l, products their highest order, the radial networks half
    of their neurons, and models of several interactions the last one. Harmonics keep at least the l of the features,
    and none that no product can use. Messages that are multiplied (MACE's A-basis) have the highest l of the harmonics,
    and a lower one too where models may be other ones than upstream's constructor builds.

    Args:
        model: what is pruned.
        keep_lmax: hidden features and harmonics keep at least this l, where they have it.
    """
    degrees = _degrees(model, keep_lmax)
    others = [list(_orders(model)), list(_radial(model)), list(_depths(model))]
    found = [tuple(t for _, t in choice if t) for choice in sorted(product(degrees, *others), key=_lost)]
    return [tuple(target for targets in shape for target in targets) for shape in found]


_Choice = tuple[int, Shape]
"""Amount that is lost, and the targets that say so."""


def _lost(choice: Sequence[_Choice]) -> int:
    return sum(lost for lost, _ in choice)


def _degrees(model: PruningProblem, keep_lmax: int) -> list[_Choice]:
    """Highest l of features, harmonics and messages that are multiplied."""
    hidden = max(space.irreps.lmax for space in model.of(Role.NODE_FEATS))
    edges = max((space.irreps.lmax for space in model.of(Role.EDGE_ATTRS)), default=hidden)
    return [
        (hidden - lmax + edges - most + lost, _if(lmax < hidden, Lmax(lmax)) + _if(most < edges, EdgeLmax(most)) + own)
        for lmax in range(min(hidden, max(keep_lmax, min(hidden, 1))), hidden + 1)
        for most in range(min(edges, max(lmax, keep_lmax, 1)), edges + 1)
        for messages, (lost, own) in _messages(model, most, keep_lmax)
        if most <= max(keep_lmax, lmax + max(lmax, messages), 1)  # a product's harmonics: l in and l out reach no more
    ]


def _messages(model: PruningProblem, edges: int, keep_lmax: int) -> Iterator[tuple[int, _Choice]]:
    """Highest l of messages, and what they lose besides what they lose with the harmonics."""
    spaces = model.of(Role.A_BASIS)
    yield max((space.irreps.lmax for space in spaces), default=0), (0, ())
    if model.of(Role.CORRELATION) and (model.heterogeneous or model.architecture.assembled):
        most = min(edges, *(space.irreps.lmax for space in spaces))
        least = max(space.smallest().kept_irreps.lmax for space in spaces)
        for lmax in range(max(least, keep_lmax, 1), most):
            yield lmax, (most - lmax, (BasisLmax(lmax),))


def _orders(model: PruningProblem) -> Iterator[_Choice]:
    most = max((channels(space) for space in model.of(Role.CORRELATION)), default=0)
    yield 0, ()
    if most > 2:  # products of one message are no products
        yield 1, (Correlation(most - 1),)


def _radial(model: PruningProblem) -> Iterator[_Choice]:
    least = min((channels(space) for space in model.of(Role.RADIAL_WIDTH)), default=0)
    yield 0, ()
    if least > 1:
        yield 1, (RadialWidth((least // 2,)),)


def _depths(model: PruningProblem) -> Iterator[_Choice]:
    most = max((channels(space) for space in model.of(Role.INTERACTIONS)), default=0)
    yield 0, ()
    if most > 2:
        yield 2, (Interactions(most - 1),)


def channels(space: FeatureSpace) -> int:
    """Number of channels of a space."""
    return space.irreps.channels


def _if(wanted: bool, target: Target) -> Shape:
    return (target,) if wanted else ()
