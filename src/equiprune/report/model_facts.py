"""Models in a folder, by what their files say: directories that equiprune wrote, and files of upstream's formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers, chemical_symbols

from equiprune.adapters import Checkpoint, ModelAdapter, usable_adapters
from equiprune.blocks import PruningPlan
from equiprune.errors import EquipruneError
from equiprune.files.atomic import read_json
from equiprune.potentials.checkpoint import read_checkpoint
from equiprune.pruning.cost import ParameterCount, count_parameters

ARCHITECTURE, _PROVENANCE = "architecture.json", "provenance.json"


@dataclass(frozen=True)
class ModelFacts:
    """A model in the folder.

    Attributes:
        adapter: name of its architecture.
        elements: atomic numbers.
        cutoff: Angstrom.
        licence: of its weights.
        history: steps that made it, the oldest first.
        versions: of packages, when it was written; empty where the format has no place for them.
    """

    adapter: str
    elements: tuple[int, ...]
    cutoff: float
    licence: str
    history: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str] = field(default_factory=dict)

    def steps(self, name: str) -> list[Mapping[str, Any]]:
        """Steps of the history of one kind, such as ``prune``."""
        return [step for step in self.history if step.get("step") == name]

    @property
    def plans(self) -> list[PruningPlan]:
        """Every plan that led to it, the oldest first; one that cannot be read is left out."""
        return [plan for step in self.steps("prune") if (plan := plan_of(step)) is not None]

    @property
    def parent(self) -> tuple[str, str]:
        """Name and sha256 of the model that the history began with; empty where they are not recorded."""
        first = self.history[0] if self.history else {}
        return Path(str(first.get("parent", ""))).name, str(first.get("parent_sha256", ""))


@dataclass(frozen=True)
class OpenedModel:
    """A model as its adapter reads it; nothing is built.

    Attributes:
        adapter: of its architecture.
        checkpoint: its data.
    """

    adapter: ModelAdapter
    checkpoint: Checkpoint

    @property
    def parameters(self) -> ParameterCount:
        """Numbers stored in it."""
        return count_parameters(self.adapter, self.checkpoint.architecture)

    @property
    def facts(self) -> ModelFacts:
        """Facts that the page tells."""
        architecture, made = self.checkpoint.architecture, self.checkpoint
        return ModelFacts(
            self.adapter.name, architecture.elements, architecture.cutoff, made.licence, tuple(made.history)
        )


@dataclass(frozen=True)
class Unopened:
    """A model that cannot be opened, and the reason."""

    reason: str


def opened(path: Path) -> OpenedModel | Unopened:
    """A model as data, or why it cannot be opened; nothing that it contains is run."""
    try:
        return OpenedModel(*read_checkpoint(path))
    except EquipruneError as error:
        return Unopened(str(error))


def facts_of_directory(folder: Path) -> ModelFacts | None:
    """The facts of a directory that equiprune wrote, without its weights; None for other directories."""
    try:
        architecture = read_json(folder / ARCHITECTURE, "model description")
        provenance = read_json(folder / _PROVENANCE, "provenance record")
        shape, history = architecture["architecture"], provenance["history"]
        return ModelFacts(
            str(architecture["adapter"]),
            tuple(atomic_numbers[chemical_symbols[int(z)]] for z in shape["elements"]),  # an `IndexError` beyond them
            float(shape["cutoff"]),
            str(provenance["licence"]),
            tuple(dict(step) for step in history),
            {str(name): str(version) for name, version in provenance.get("versions", {}).items()},
        )
    except (AttributeError, EquipruneError, LookupError, TypeError, ValueError):
        return None


def facts_of_file(path: Path) -> ModelFacts | Unopened | None:
    """The facts of a checkpoint of an upstream's format, why it cannot be opened, or None for any other file.

    Only names that upstream's formats have are looked at, and only files that one architecture recognises.
    """
    if not any(path.name.lower().endswith(adapter.suffixes) for adapter in usable_adapters() if adapter.suffixes):
        return None
    if len([adapter for adapter in usable_adapters() if adapter.recognises(path)]) != 1:
        return None
    found = opened(path)
    return found.facts if isinstance(found, OpenedModel) else found


def plan_of(step: Mapping[str, Any]) -> PruningPlan | None:
    """The plan of a recorded step of pruning; None where it cannot be read."""
    try:
        return PruningPlan.from_json(step.get("plan"))
    except EquipruneError:
        return None
