"""Arguments of training besides the model and the recipe: data, resources, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.training.observers import Observer
from equiprune.training.replay import NO_REPLAY, Replay

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class TrainingData:
    """Labelled structures by what they are for.

    Attributes:
        structures: to learn from, with labels for every quantity that the objective weighs.
        validation: only choose the best model.
        replay: a second labelled set, some of which is seen in every epoch.
        fingerprints: of the files, recorded and compared when resuming.
        parent: the model whose features are labels too, where the objective weighs features.
    """

    structures: Sequence[Atoms]
    validation: Sequence[Atoms] = ()
    replay: Replay = NO_REPLAY
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    parent: Potential | None = None

    @property
    def prints(self) -> dict[str, str]:
        """Fingerprints of the files, and of the parent."""
        return {**self.fingerprints, **({"parent": self.parent.checkpoint.sha256} if self.parent else {})}


@dataclass(frozen=True)
class Resources:
    """Hardware, processes and disk.

    Attributes:
        fabric: devices and processes; one CPU process unless given.
        workers: new processes that build batches (so train below ``if __name__ == "__main__":``); 0 for none.
        cache: a folder of neighbour lists, which other runs may share; None finds them anew every time.
    """

    fabric: Fabric | None = None
    workers: int = 0
    cache: Path | None = None


@dataclass(frozen=True)
class Watchers:
    """Callbacks that are told how far training is.

    Attributes:
        note: which labels the structures have, and which validation structures are also learnt from.
        progress: called with 1 after every step, and first with the steps that an interrupted run has behind it.
        looked_at: called with 1 after every structure that is looked at before the first step.
        observers: told about every line of the learning curve, also those of before an interruption.
    """

    note: Callable[[str], None] = lambda _: None
    progress: Progress = silent
    looked_at: Progress = silent
    observers: Sequence[Observer] = ()


ONE_CPU, UNWATCHED = Resources(), Watchers()
"""One process on the CPU, and nobody who is told."""
