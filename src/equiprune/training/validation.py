"""The objective on structures that nothing is learnt from."""

from __future__ import annotations

from collections.abc import Iterable

from equiprune.potentials.derivatives import Predictor
from equiprune.training.batches import TrainingBatch
from equiprune.training.divergence import not_finite
from equiprune.training.objective import TERMS, Objective


def validation_sums(
    predictor: Predictor, batches: Iterable[TrainingBatch], objective: Objective
) -> tuple[list[float], list[int]]:
    """The weighted sum of each term over batches, and how many components went in.

    Raises:
        StructureError: a prediction is not finite.
    """
    totals, counts = dict.fromkeys(TERMS, 0.0), dict.fromkeys(TERMS, 0)
    for data in batches:
        predicted = predictor(*data.inputs)
        if error := not_finite(predicted, data):
            raise error
        for name, part in objective.sums(predicted, data.targets, data.graph).items():
            totals[name] += float(part.total.detach())
            counts[name] += part.count
    return list(totals.values()), list(counts.values())
