"""The objective on structures that nothing is learnt from."""

from __future__ import annotations

from collections.abc import Iterable

from equiprune.potentials.potential import Potential
from equiprune.training.batches import TrainingBatch
from equiprune.training.divergence import not_finite
from equiprune.training.objective import QUANTITIES, Objective


def validation_sums(
    potential: Potential, batches: Iterable[TrainingBatch], objective: Objective
) -> tuple[list[float], list[int]]:
    """The weighted sum of each quantity over batches, and how many components went in.

    Raises:
        StructureError: a prediction is not finite.
    """
    predictor = potential.for_training().eval()
    totals, counts = dict.fromkeys(QUANTITIES, 0.0), dict.fromkeys(QUANTITIES, 0)
    for data in batches:
        predicted = predictor(*data.inputs)
        if error := not_finite(predicted, data):
            raise error
        for name, part in objective.sums(predicted, data.targets, data.graph).items():
            totals[name] += float(part.total.detach())
            counts[name] += part.count
    return list(totals.values()), list(counts.values())
