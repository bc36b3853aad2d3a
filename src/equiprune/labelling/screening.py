"""Screening of labels: structures about which a teacher is not to be believed are left out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from equiprune.errors import TargetError
from equiprune.files.settings import kind
from equiprune.labelling.teachers import Results


class Objection(Enum):
    """Why a structure was left out."""

    FAILED = "failed"
    NOT_FINITE = "not_finite"
    FORCE = "largest_force"
    DISAGREEMENT = "largest_disagreement"


@kind("screening")
@dataclass(frozen=True)
class Screening:
    """A rule for which labels are kept; what is None is not asked for.

    Attributes:
        largest_force: on any atom, eV/Angstrom.
        largest_disagreement: length of the difference of two teachers' forces on any atom, eV/Angstrom.
    """

    largest_force: float | None = None
    largest_disagreement: float | None = None

    def __post_init__(self) -> None:
        for name in ("largest_force", "largest_disagreement"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise TargetError(f"`{name}` {value} is not possible: give a positive number of eV/Angstrom.")

    @property
    def asked(self) -> bool:
        """True if anything may be left out."""
        return self != NO_SCREENING

    def objection(self, results: Results) -> Objection | None:
        """Why labels are left out that are numbers, whatever another teacher says; None if they are kept."""
        return Objection.FORCE if self.largest_force and largest(results["forces"]) > self.largest_force else None

    def disagreement(self, results: Results, second: Results) -> Objection | None:
        """Why labels are left out of which another teacher has its own; one that has none at all disagrees."""
        agreed = largest(np.subtract(results["forces"], second.get("forces", np.nan))) <= (
            self.largest_disagreement or np.inf
        )
        return None if agreed else Objection.DISAGREEMENT


NO_SCREENING = Screening()
"""Every label is kept."""


def largest(forces: np.ndarray) -> float:
    """Length of the largest of some vectors, (atoms, 3).

    >>> largest(np.array([[3.0, 4.0, 0.0], [1.0, 0.0, 0.0]]))
    5.0
    """
    return float(np.linalg.norm(forces, axis=1).max())
