"""Numbers that are not finite, as an error that names the structures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from equiprune.errors import StructureError
from equiprune.training.batches import TrainingBatch


class DivergedError(StructureError):
    """Training in which a prediction, a gradient or a step is not finite."""


def not_finite(predicted: Mapping[str, Tensor], data: TrainingBatch) -> DivergedError | None:
    """The error that energies, forces or Hessian products of a batch are, if one of them is not finite."""
    bad_atoms = ~predicted["atom_energies"].isfinite()
    if "forces" in predicted:
        bad_atoms |= ~(predicted["forces"].isfinite().all(-1) & predicted["hessian"].isfinite().all(-1).all(0))
    bad = set(data.graph.structure_of_atom[bad_atoms].tolist())
    bad |= set((~predicted["energy"].isfinite()).nonzero().flatten().tolist())
    return diverged(f"the predictions for {data.called(sorted(bad))} are") if bad else None


def diverged(what: str) -> DivergedError:
    """The error of what "is" or "are" not finite."""
    return DivergedError(
        f"Training has diverged: {what} not finite. Lower the learning rate, clip gradients, or look at those "
        "structures."
    )


@contextmanager
def overflowing(learning_rate: float) -> Iterator[None]:
    """Call it divergence when torch finds a learning rate beyond the numbers of a precision."""
    try:
        yield
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise diverged(f"a step at a learning rate of {learning_rate:g} is") from error
