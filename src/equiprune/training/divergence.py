"""Numbers that are not finite, as an error that names the structures."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from equiprune.errors import StructureError
from equiprune.training.data import TrainingBatch


def not_finite(predicted: Mapping[str, Tensor], data: TrainingBatch) -> StructureError | None:
    """The error that energies, forces or Hessian products of a batch are, if one of them is not finite."""
    bad_atoms = ~(predicted["forces"].isfinite().all(-1) & predicted["hessian"].isfinite().all(-1).all(0))
    bad = set(data.graph.structure_of_atom[bad_atoms].tolist())
    bad |= set((~predicted["energy"].isfinite()).nonzero().flatten().tolist())
    return diverged(f"the predictions for {data.called(sorted(bad))} are") if bad else None


def diverged(what: str) -> StructureError:
    """The error of what "is" or "are" not finite."""
    return StructureError(
        f"Training has diverged: {what} not finite. Lower the learning rate, clip gradients, or look at those "
        "structures."
    )
