"""The sample: training and validation structures."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Positive
from equiprune.errors import TargetError
from equiprune.structures.sampling import check_share


@Parameter(name="*", group=panel("Which structures"))
@dataclass(frozen=True)
class SampleOptions(Complete):
    """Selection of training structures, and of those that choose the best model.

    Attributes:
        frames_per_structure: at most this many frames of each structure, drawn at random by --seed.
        validation_share: instead of --validation, this share of the structures, with all their frames, drawn by --seed.
        structure_key: the info entry that says which structure a frame is of, e.g. traj; each frame is one without it.
    """

    frames_per_structure: Positive | None = None
    validation_share: float | None = None
    structure_key: str | None = None

    def check(self) -> None:
        if self.validation_share is not None:
            check_share(self.validation_share)
        elif self.structure_key is not None and self.frames_per_structure is None:
            raise TargetError(
                "`structure_key` tells structures apart for `frames_per_structure` and `validation_share`; give one "
                "of them too."
            )


NO_SAMPLE = SampleOptions()
"""Nothing said."""
