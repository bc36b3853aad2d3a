"""The history of a model: one frozen value per recorded step, and its JSON.

A checkpoint holds its history as the JSON that its file has, so that steps of later versions travel unread.
`Checkpoint.after` adds a step; each record says which step it is, and of which parent: ``step``, ``parent`` (where that
was) and ``parent_sha256``, beside the fields of the step. Names of steps and keys stay, since files have them.

==============  ==================================  ========================================
step            value                               keys of its own
==============  ==================================  ========================================
``prune``       `Pruned`                            plan, dtype, and what asked for it
``grow``        `Grown`                             growth, dtype
``reference``   `ReferencesChanged`                 references, head, changes
``reference``   `ScaleChanged`                      scale, head
``initialise``  `Initialised`                       seed
``repair``      `Repaired`                          structures, rattle, seed, displacements
``train``       `Trained`                           recipe, data, steps, replay
==============  ==================================  ========================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch

from equiprune.adapters.growth import Growth, growth_from_json
from equiprune.adapters.precision import dtype_name, dtype_named
from equiprune.blocks import PruningPlan
from equiprune.files.settings import to_json

_COMMON = {"step", "parent", "parent_sha256"}


class Step(ABC):
    """One step in the history of a model."""

    name: ClassVar[str]
    """In files."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The keys of a record that are the step's own; `step_from_json` reads a whole record."""


@dataclass(frozen=True)
class Pruned(Step):
    """Blocks were removed.

    Attributes:
        plan: what was kept.
        dtype: of the weights that were left.
        note: what asked for the plan, as JSON.
    """

    name = "prune"
    plan: PruningPlan
    dtype: torch.dtype
    note: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"plan": self.plan.to_json(), "dtype": dtype_name(self.dtype), **self.note}


@dataclass(frozen=True)
class Grown(Step):
    """Something was added; ``dtype`` is that of the weights afterwards."""

    name = "grow"
    growth: Growth
    dtype: torch.dtype

    def to_json(self) -> dict[str, Any]:
        return {"growth": to_json(self.growth), "dtype": dtype_name(self.dtype)}


@dataclass(frozen=True)
class ReferencesChanged(Step):
    """Energies of elements were changed.

    Attributes:
        how: kept, refitted or given.
        head: of a multi-head model, the one that was changed.
        changes: eV by chemical symbol.
    """

    name = "reference"
    how: str
    head: str | None
    changes: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {"references": self.how, "head": self.head, "changes": dict(self.changes)}


@dataclass(frozen=True)
class ScaleChanged(Step):
    """The energy scale was set, eV; recorded as a reference too."""

    name = "reference"
    scale: float
    head: str | None

    def to_json(self) -> dict[str, Any]:
        return {"scale": self.scale, "head": self.head}


@dataclass(frozen=True)
class Initialised(Step):
    """Weights were drawn anew."""

    name = "initialise"
    seed: int

    def to_json(self) -> dict[str, Any]:
        return {"seed": self.seed}


@dataclass(frozen=True)
class Repaired(Step):
    """Linear maps were fitted to what the parent makes of structures.

    Attributes:
        structures: how many.
        rattle: largest standard deviation of their displacements, Angstrom.
        seed: of the displacements.
        displacements: how many times each was displaced.
    """

    name = "repair"
    structures: int
    rattle: float
    seed: int
    displacements: int = 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trained(Step):
    """Weights were trained.

    Attributes:
        recipe: as JSON.
        data: fingerprints by use, and how some were chosen.
        steps: of the optimizer.
        replay: share and fingerprint of a second set, or None.
    """

    name = "train"
    recipe: Mapping[str, Any]
    data: Mapping[str, str]
    steps: int
    replay: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        replay = None if self.replay is None else dict(self.replay)
        return {"recipe": dict(self.recipe), "data": dict(self.data), "steps": self.steps, "replay": replay}


def step_from_json(record: Mapping[str, Any]) -> Step:
    """The step of a record of this version or an earlier one.

    Raises:
        KeyError, TypeError, ValueError: the record is damaged, or of a step that this version does not know.
        PlanError: its plan or growth is.
    """
    match record:
        case {"step": Pruned.name}:
            note = {key: value for key, value in record.items() if key not in {*_COMMON, "plan", "dtype"}}
            return Pruned(PruningPlan.from_json(record["plan"]), dtype_named(record["dtype"]), note)
        case {"step": Grown.name}:
            return Grown(growth_from_json(record["growth"]), dtype_named(record["dtype"]))
        case {"step": ScaleChanged.name, "scale": scale}:
            return ScaleChanged(scale, record["head"])
        case {"step": ReferencesChanged.name}:
            return ReferencesChanged(record["references"], record["head"], record["changes"])
        case {"step": Initialised.name}:
            return Initialised(record["seed"])
        case {"step": Repaired.name}:
            return Repaired(record["structures"], record["rattle"], record["seed"], record.get("displacements", 1))
        case {"step": Trained.name}:
            return Trained(record["recipe"], record["data"], record["steps"], record.get("replay"))
    raise ValueError(f"a step '{record.get('step')}' that this version of equiprune does not know")
