"""Features of a parent as labels of its pruned child.

Pruning keeps blocks of a parent's features, so the child's features have the same places and the same meaning: what the
parent has there is a label for every number between two interactions, hundreds per atom where forces are three. No
projection is needed between the two, as there is between models that were not cut out of one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters import NO_TAPS
from equiprune.blocks import Role, Site
from equiprune.errors import TargetError
from equiprune.potentials.potential import Potential
from equiprune.pruning.inheritance import plan_between
from equiprune.structures.graph import AtomicGraph
from equiprune.training.batches import TrainingBatch
from equiprune.training.objective import FeatureLabels, FeatureTerm

_MEASURED = 32
"""Structures that say how large features are."""


@dataclass(frozen=True)
class FeatureTeacher:
    """A parent, and where the features of its child are among its own.

    Attributes:
        parent: the model that the child was pruned from.
        columns: of each feature space of the child, the columns of the parent's features, (child's irreps.dim,).
        size: of each, the root mean square of the parent's features on some structures.
    """

    parent: Potential
    columns: Mapping[str, Tensor]
    size: Mapping[str, float]

    @classmethod
    def of(cls, parent: Potential, child: Potential, structures: Sequence[Atoms]) -> FeatureTeacher:
        """The parent of a child, on the child's device and in its precision.

        Some of ``structures`` are what the size of features is measured on.

        Raises:
            TargetError: the child was not pruned from this model, or its features have other places.
        """
        there = parent.with_dtype(child.dtype).on(child.device)
        columns = {
            name: torch.tensor(columns, device=child.device) for name, columns in kept_columns(parent, child).items()
        }
        unsized = cls(there, columns, dict.fromkeys(columns, 1.0))
        some = [structures[i] for i in range(0, len(structures), -(-len(structures) // _MEASURED))]
        found = [unsized.labels(there.graph([atoms])).values for atoms in some]
        squares = {name: torch.cat([of[name].flatten() for of in found]).double().square().mean() for name in columns}
        return cls(there, columns, {name: float(square.sqrt()) or 1.0 for name, square in squares.items()})

    @torch.no_grad()
    def labels(self, graph: AtomicGraph) -> FeatureLabels:
        """Features of the parent where the child's are."""
        seen: dict[str, list[Tensor]] = {name: [] for name in self.columns}

        self.parent.evaluate(graph, NO_TAPS.watching({name: partial(_noted, into) for name, into in seen.items()}))
        values = {name: torch.cat(of).index_select(1, self.columns[name]) for name, of in seen.items()}
        return FeatureLabels(values, self.size)

    def taught(self, data: TrainingBatch, term: FeatureTerm) -> TrainingBatch:
        """The batch with these labels, and with them as the features that a child goes on with, block by block."""
        labels = self.labels(data.graph)
        given = labels.values if term.block_by_block else {}
        return replace(data, targets=replace(data.targets, features=labels), given=given)


def _noted(into: list[Tensor], feature: Tensor) -> Tensor:
    into.append(feature)
    return feature


def kept_columns(parent: Potential, child: Potential) -> dict[str, tuple[int, ...]]:
    """By feature space of the child's atoms, the columns of the parent's features that it kept.

    Raises:
        TargetError: the child was not pruned from this model, or interactions were removed.
    """
    plan = plan_between(parent, child, "`features_weight` 0")
    theirs = {space.name: space for space in parent.spaces}
    found = {}
    for space in child.spaces:
        if space.role != Role.NODE_FEATS or space.site is not Site.ATOM:
            continue
        mask = plan.mask(theirs[space.name]) if space.name in theirs else None
        if mask is None or mask.kept_irreps != space.irreps:
            raise TargetError(
                f"'{child.checkpoint.source}' has {space.irreps} in {space.name}, where its parent kept "
                f"{mask.kept_irreps if mask else 'nothing'}: whole interactions were removed, or the model has grown, "
                "so its features are no longer the parent's. Give `features_weight` 0."
            )
        found[space.name] = mask.columns()
    return found
