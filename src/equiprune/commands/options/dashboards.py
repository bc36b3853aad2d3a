"""Destinations of the learning curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Switch
from equiprune.commands.stages import Mark
from equiprune.training.observers import CurvePicture, Observer, TensorBoard, Wandb


@Parameter(name="*", group=panel("Dashboards"))
@dataclass(frozen=True)
class WatchOptions(Complete):
    """Destinations of the learning curve besides curve.csv and curve.png.

    Attributes:
        tensorboard: also event files for TensorBoard, in the run's folder "tensorboard".
        wandb: also this project on Weights & Biases.
    """

    tensorboard: Annotated[Switch, Mark.UNRECORDED] = False
    wandb: Annotated[str | None, Mark.UNRECORDED] = None

    def observers(self, run: Path) -> list[Observer]:
        """The observers of the run in this folder; raises `EquipruneError` for a package that is not installed."""
        boards: list[Observer] = [TensorBoard(run)] if self.tensorboard else []
        return [CurvePicture(run), *boards, *([Wandb(run, self.wandb)] if self.wandb else [])]


UNWATCHED = WatchOptions()
"""Nothing said."""
