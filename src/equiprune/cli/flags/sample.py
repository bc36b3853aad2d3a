"""Flags of the sample: training and validation structures."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import Parameter

from equiprune.cli.flags.panels import panel
from equiprune.cli.flags.values import Positive


@Parameter(name="*", group=panel("Which structures"))
@dataclass(frozen=True)
class SampleFlags:
    """Selection of training structures, and of those that choose the best model.

    Attributes:
        frames_per_structure: at most this many frames of each structure, drawn at random by --seed.
        validation_share: instead of --validation, this share of the structures, with all their frames, drawn by --seed.
        structure_key: the info entry that says which structure a frame is of, e.g. traj; each frame is one without it.
    """

    frames_per_structure: Positive | None = None
    validation_share: float | None = None
    structure_key: str | None = None


NO_SAMPLE = SampleFlags()
"""No flag given."""
