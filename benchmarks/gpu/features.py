"""Features of the parent as labels, made in the step that learns them: all of it can be recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from ase import Atoms
from torch import Tensor

from benchmarks.gpu.batched import Crystals
from benchmarks.gpu.batched import graph as graph_of
from benchmarks.gpu.fixed import fixed_evaluation
from benchmarks.gpu.pool import Batch
from equiprune.adapters import NO_TAPS, Taps
from equiprune.potentials.potential import Potential
from equiprune.training.feature_labels import kept_columns


class ParentFeatures:
    """The weighted distance of a child's features from those that its parent has in the same places.

    The square of the difference relative to the square of what the parent's features are, averaged over atoms,
    components and spaces, as `equiprune.training.objective.FeatureTerm` has it.
    """

    def __init__(self, parent: Potential, child: Potential, structures: Sequence[Atoms], weight: float) -> None:
        self.evaluate, self.weight = fixed_evaluation(parent), weight
        # A copy in the native format stands for the file that the child was pruned from.
        of = child.checkpoint.history[len(parent.checkpoint.history)]["parent_sha256"]
        copied = replace(parent.checkpoint, sha256=of)
        columns = kept_columns(replace(parent, checkpoint=copied), child)
        self.columns = {name: torch.tensor(kept, device=child.device) for name, kept in columns.items()}
        crystals = Crystals.of(structures, parent.device, parent.dtype)
        with torch.no_grad():
            found = self._labels(graph_of(crystals, parent.architecture.cutoff))
        self.size = {name: values.square().mean().sqrt() for name, values in found.items()}

    def taps(self, seen: dict[str, Tensor]) -> Taps:
        """Taps that note the child's features."""
        return NO_TAPS.watching({name: _noting(seen, name) for name in self.columns})

    def __call__(self, seen: dict[str, Tensor], batch: Batch) -> Tensor:
        """The distance of what the taps have noted for a batch; rows that fill it up count for nothing."""
        with torch.no_grad():
            labels = self._labels(batch.graph)
        weight = batch.atom_weight / batch.atom_weight.sum()
        parts = [(((seen[n] - v) / self.size[n]).square().mean(1) * weight).sum() for n, v in labels.items()]
        return self.weight * torch.stack(parts).mean()

    def _labels(self, graph) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        self.evaluate(graph, self.taps(seen))
        return {name: seen[name].index_select(1, columns) for name, columns in self.columns.items()}


def _noting(seen: dict[str, Tensor], name: str):
    def note(feature: Tensor) -> Tensor:
        seen[name] = feature
        return feature

    return note
