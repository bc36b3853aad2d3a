"""Training for a given CPU time: how long a step takes is measured first, so that a schedule ends with the time."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

import equiprune as ep
from equiprune.structures.sequences import Selection
from equiprune.training.arguments import TrainingData
from equiprune.training.recipe import Recipe
from equiprune.training.trainer import train

_TIMED = 20
"""Steps by which the duration of one is measured, after as many that nobody times: the first ones compile."""


@dataclass(frozen=True)
class Teaching:
    """A recipe and what it is tried on; epochs are points at which the validation structures are looked at.

    Attributes:
        recipe: its epochs are the number of validations.
        data: structures to learn from.
        validation: may be empty.
        parent: where the objective weighs features.
    """

    recipe: Recipe
    data: Sequence[Atoms]
    validation: Sequence[Atoms] = ()
    parent: ep.Potential | None = None

    def steps(self, start: ep.Potential, seconds: float) -> int:
        """Steps that fit into a CPU time, without what a run begins and ends with."""
        return max(int(seconds / self._seconds_per_step(start)), 1)

    def run(self, start: ep.Potential, steps: int, folder: Path) -> ep.Potential:
        """The model after so many steps, however many structures there are."""
        epochs = min(self.recipe.epochs, steps)
        random, size = np.random.default_rng(self.recipe.seed), len(self.data)
        needed = steps // epochs * self.recipe.batch_size
        order = np.concatenate([random.permutation(size) for _ in range(-(-needed // size))])[:needed]
        data = TrainingData(Selection(self.data, order), self.validation, parent=self.parent)
        return train(start, data, replace(self.recipe, epochs=epochs), folder)

    def _seconds_per_step(self, start: ep.Potential) -> float:
        spent = []
        for steps in (1 + _TIMED, 1, 1 + _TIMED):
            with tempfile.TemporaryDirectory() as folder:
                begun = time.process_time()
                alone = replace(self, validation=(), recipe=replace(self.recipe, epochs=1))
                alone.run(start, steps, Path(folder) / "run")
                spent.append(time.process_time() - begun)
        return (spent[2] - spent[1]) / _TIMED
