"""Frames of short relaxations: structures on the way to rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ase import Atoms

from equiprune.errors import TargetError
from equiprune.files.settings import kind
from equiprune.labelling.walks import Walk

AT_REST = 0.01
"""eV/Angstrom: a relaxation ends where no force is larger."""


@kind("relaxation")
@dataclass(frozen=True)
class Relaxation(Walk):
    """Frames, evenly spread over the steps of a relaxation (FIRE) that starts from each structure.

    The cell relaxes with the atoms where the structure is periodic in three directions and the driver has a stress.
    A structure that comes to rest (no force above 0.01 eV/Angstrom) before the last step has fewer frames.

    Attributes:
        frames: per structure, besides the structure itself.
        steps: the most.
    """

    frames: int = 0
    steps: int = 60

    def __post_init__(self) -> None:
        if self.frames < 0:
            raise TargetError(f"`relaxation_frames` {self.frames} is not possible: give 0 or more.")
        if self.steps < max(self.frames, 1):
            raise TargetError(
                f"`relaxation_steps` {self.steps} is not possible: give at least 1, and as many as frames "
                f"({self.frames})."
            )

    @property
    def name(self) -> str:
        return "relaxation"

    @property
    def flown_apart(self) -> str:
        return "relaxation flies apart. Leave the structure out, or ask for no frames of relaxations."

    def stops(self, moving: Atoms, number: int) -> Iterator[None]:
        from ase.filters import FrechetCellFilter  # slow to import, and only needed here
        from ase.optimize import FIRE

        has_stress = "stress" in moving.calc.implemented_properties
        motion = FIRE(FrechetCellFilter(moving) if moving.pbc.all() and has_stress else moving, logfile=None)
        done = 0
        for frame in range(1, self.frames + 1):
            at_rest = motion.run(AT_REST, steps=frame * self.steps // self.frames - done)
            if motion.nsteps == done:  # it was at rest before
                return
            done = motion.nsteps
            yield
            if at_rest:
                return
