"""Repair of radial networks that lost neurons: functions of a distance, on a line, which few neurons hold well.

A matrix that reads the hidden neurons of a radial network should give what the parent's makes of all of them, for the
outputs that were kept, whatever function comes after it. So it is the solution of a least-squares problem, layer by
layer, with the neurons of the smaller model repaired so far as inputs and edges of structures as rows.

Which matrices these are is read off the layouts; an adapter declares nothing more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from equiprune.adapters import Taps
from equiprune.blocks import Path, PruningPlan, Role, WeightLayout
from equiprune.blocks.layout import Axis
from equiprune.blocks.slicing import kept_positions
from equiprune.potentials.potential import Potential
from equiprune.pruning.least_squares import NormalEquations, cross_validated, total
from equiprune.pruning.parent_view import FOLDS, Sample

_SAMPLES = 2
"""Samples of each fold that are looked at, and edges of each: a function of a distance needs few."""
_EDGES = 512


@dataclass(frozen=True)
class _Reader:
    """A matrix that reads the neurons of a layer.

    Attributes:
        weight, parents_weight: its names.
        space, parents_space: names of the layer.
        layer: number of layers before it.
        path, parents_path: its only path.
    """

    weight: str
    parents_weight: str
    space: str
    parents_space: str
    layer: int
    path: Path
    parents_path: Path


def repair_radial_networks(fitted: Potential, parent: Potential, samples: Sequence[Sample], plan: PruningPlan) -> int:
    """Change the weights of the fitted model, in place, where its radial networks lost neurons; how many it changed."""
    readers = sorted(_readers(fitted, parent), key=lambda reader: reader.layer)
    folds = [[sample for sample in samples if sample.fold == fold] for fold in range(FOLDS)]
    chosen = [sample for fold in folds for sample in fold[:: max(1, len(fold) // _SAMPLES)]]
    for _, layer in groupby(readers, key=lambda reader: reader.layer):
        _repair_layer(fitted, parent, chosen, plan, list(layer))
    return len(readers)


def _readers(child: Potential, parent: Potential) -> Iterator[_Reader]:
    """Readers of layers that are smaller than the parent's."""
    theirs = {layout.identity or name: (name, layout) for name, layout in _layouts(parent).items()}
    layers = {s.name for s in child.spaces if s.role is Role.RADIAL_WIDTH}
    depth: dict[str, int] = defaultdict(int)
    for name, layout in _layouts(child).items():  # in the order of the forward pass
        space, made = _spaces(layout)
        if space not in layers:
            continue
        if made in layers:
            depth[made] = depth[space] + 1
        parents_name, parents_layout = theirs[layout.identity or name]
        path, parents_path = layout.paths[0], parents_layout.paths[0]
        if path.axes[_input(path)] != parents_path.axes[_input(path)]:
            before, _ = _spaces(parents_layout)
            yield _Reader(name, parents_name, space, before, depth[space], path, parents_path)


def _layouts(potential: Potential) -> Mapping[str, WeightLayout]:
    return potential.adapter.layouts(potential.architecture)


def _spaces(layout: WeightLayout) -> tuple[str, str]:
    """The spaces that a matrix reads and makes, where each is one stretch of channels as they are; else no names."""
    if len(layout.paths) != 1 or len(layout.paths[0].axes) != 2:
        return "", ""
    path = layout.paths[0]
    reads, makes = path.axes[_input(path)], path.axes[1 - _input(path)]
    alone = len(reads) == 1 and not reads[0].use
    return reads[0].space if alone else "", makes[0].space if len(makes) == 1 else ""


def _input(path: Path) -> int:
    """The axis that is read."""
    return 1 if path.produces(0) else 0


def _repair_layer(
    fitted: Potential, parent: Potential, samples: Sequence[Sample], plan: PruningPlan, readers: Sequence[_Reader]
) -> None:
    ours, theirs = dict(fitted.module.named_parameters()), dict(parent.module.named_parameters())
    equations: defaultdict[str, list[list[NormalEquations]]] = defaultdict(lambda: [[] for _ in range(FOLDS)])
    for sample in samples:
        given = _neurons(fitted, sample, {reader.space for reader in readers})
        right = _neurons(parent, sample, {reader.parents_space for reader in readers})
        for reader in readers:
            x, all_neurons = given[reader.space], right[reader.parents_space]
            does = _matrix(reader.parents_path, theirs[reader.parents_weight])
            kept = list(kept_positions(_made(reader.parents_path), _made(reader.path), plan))
            missing = all_neurons @ does[:, kept] - x @ _matrix(reader.path, ours[reader.weight])
            equations[reader.weight][sample.fold].append(NormalEquations.of(x, missing))
    for reader in readers:
        change = cross_validated([total(fold) for fold in equations[reader.weight] if fold]) / reader.path.scale
        with torch.no_grad():
            ours[reader.weight].add_(change if _input(reader.path) == 0 else change.T)


def _neurons(potential: Potential, sample: Sample, spaces: set[str]) -> dict[str, Tensor]:
    """Activations of layers (some edges, neurons)."""
    seen: dict[str, Tensor] = {}

    def note(space: str, feature: Tensor) -> Tensor:
        seen[space] = feature[:: max(1, len(feature) // _EDGES)]
        return feature

    with torch.no_grad():
        potential.evaluate(sample.graph, Taps(watched={space: partial(note, space) for space in spaces}))
    return seen


def _matrix(path: Path, weight: Tensor) -> Tensor:
    """Effective weight of a matrix, (inputs, outputs)."""
    does = weight.detach().reshape(path.shape) * path.scale
    return does if _input(path) == 0 else does.T


def _made(path: Path) -> Axis:
    return path.axes[1 - _input(path)]
