"""Accuracy of models."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import equiprune as ep
from equiprune.commands.opening import check_compared, open_models
from equiprune.commands.options.labels import NO_KEYS, LabelOptions
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Data, Device, Dtype, Models, Positive
from equiprune.commands.request import Request, remarks
from equiprune.progress import Display, Task, unseen


@dataclass(frozen=True)
class Evaluated:
    """Errors of every model against the same labels."""

    data: Path
    accuracies: tuple[ep.Accuracy, ...]

    def to_json(self) -> list[dict[str, Any]]:
        return [accuracy.to_json() for accuracy in self.accuracies]


@dataclass(frozen=True)
class Evaluate(Request[Evaluated]):
    """Errors of one or more models against labelled structures, side by side.

    Attributes:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        data: structures with energy, forces or stress labels.
        dtype: precision of the models.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
    """

    models: Models
    _: KW_ONLY
    data: Data
    dtype: Dtype = "float32"
    device: Device = "cpu"
    limit: Positive | None = None
    batch_atoms: Positive = 256
    labels: LabelOptions = NO_KEYS
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_compared(self.models, self.device)

    def run(self, display: Display = unseen) -> Evaluated:
        """Evaluate all models on one pass over the structures."""
        keys = self.labels.keys
        keys.check(islice(ep.read_structures(self.data), self.limit))
        structures = map(keys.on, islice(ep.read_structures(self.data), self.limit))
        potentials = open_models(self.models, self.dtype, self.opening, self.device)
        with display(Task("evaluate", self.limit)) as [step]:
            accuracies = tuple(ep.evaluate(potentials, structures, batch_atoms=self.batch_atoms, progress=step))
        remarks.info(str(accuracies[0].labels))
        return Evaluated(self.data, accuracies)
