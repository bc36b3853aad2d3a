"""Recipes of training, and named choices: where each value comes from is said beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from equiprune.errors import TargetError
from equiprune.files.settings import UNRECORDED, kind, to_json
from equiprune.training.batches import rounds
from equiprune.training.objective import (
    Huber,
    Objective,
    Term,
    mace_universal,
    mace_weighted,
    open_catalyst,
    sevennet_huber,
)
from equiprune.training.optimisation import Cosine, Linear, Optimisation, Plateau


@kind("recipe")
@dataclass(frozen=True)
class Recipe:
    """A recipe of training.

    Attributes:
        objective: what is minimised.
        optimisation: optimizer and schedule.
        epochs: passes over the structures.
        batch_size: structures per batch and process.
        seed: of the order of the structures.
        patience: stop after more epochs than this without a better validation loss; None never stops early.
        save_every: steps between two saves of the state, besides one after every epoch and one every five minutes.
    """

    objective: Objective
    optimisation: Optimisation = field(default_factory=Optimisation)
    epochs: int = 10
    batch_size: int = 4
    seed: int = 0
    patience: int | None = None
    save_every: int = field(default=500, metadata=UNRECORDED)

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("save_every", 1), ("patience", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise TargetError(f"The {name.replace('_', ' ')} {value} is not possible: give {least} or more.")

    def to_json(self) -> dict[str, Any]:
        """Every choice that a result depends on, as JSON: what a run records, and compares when it resumes."""
        return to_json(self)


def steps_of(recipe: Recipe, structures: int, replayed: int = 0, processes: int = 1) -> int:
    """Steps that a run takes unless patience ends it; ``replayed`` structures are beside its own in every epoch."""
    return recipe.epochs * rounds(structures + replayed, recipe.batch_size, processes)


@dataclass(frozen=True)
class Preset:
    """An objective and an optimisation under a name."""

    source: str
    objective: Objective
    optimisation: Optimisation


_MACE = (
    "AMSGrad, clipping and averaging as in mace/tools/arg_parser.py; learning rate 0.001, less after 5 epochs without "
    "progress (MACE: 0.01, 50 epochs), no weight decay"
)

PRESETS: Mapping[str, Preset] = {
    "mace-universal": Preset(
        f"mace_run_train --loss universal with the forces weight 10; {_MACE}",
        mace_universal(),
        Optimisation(learning_rate=1e-3, schedule=Plateau(0.8, 5), amsgrad=True, clip=10.0, average=0.99),
    ),
    "mace-weighted": Preset(
        f"mace_run_train --loss weighted; {_MACE}",
        mace_weighted(),
        Optimisation(learning_rate=1e-3, schedule=Plateau(0.8, 5), amsgrad=True, clip=10.0, average=0.99),
    ),
    "sevennet": Preset(
        "the loss of SevenNet-0's config; learning rate from 0.004 linearly to 1 % of it (the config: 0.01 to 0.01 %)",
        sevennet_huber(),
        Optimisation(learning_rate=4e-3, schedule=Linear(0.01), clip=None, average=None),
    ),
    "distil": Preset(
        "preset sevennet with atom energies of the parent, weight 0.5; for a repaired start (docs/results.md, recipes)",
        replace(sevennet_huber(), atom_energies=Term(0.5, Huber())),
        Optimisation(learning_rate=4e-3, schedule=Linear(0.01), clip=None, average=None),
    ),
    "escn": Preset(
        "fairchem's configs/oc20/s2ef/2M/escn: AMSGrad, 100 steps of warm-up, averaging of 0.999, clipping at 20 (for "
        "L = 4; 100 for L = 6); a cosine instead of its steps at 145,833, 187,500 and 229,166",
        open_catalyst(),
        Optimisation(8e-4, Cosine(0.01), warm_up=100, amsgrad=True, clip=20.0, average=0.999),
    ),
}
