"""The contract of an architecture: what an adapter must say so that everything else works.

An adapter does no pruning. It reads a checkpoint into plain data (hyperparameters and named weights), *declares* its
feature spaces and weight layouts, says what a plan does to the hyperparameters, builds the ordinary upstream module,
and evaluates its energy with *taps* on the feature spaces. The core does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor, nn

from equiprune.adapters.growth import Growth
from equiprune.adapters.history import Step
from equiprune.adapters.hyperparameters import since
from equiprune.blocks import FeatureSpace, PruningPlan, WeightLayout
from equiprune.errors import CheckpointError, OutputError, TargetError
from equiprune.structures.graph import AtomicGraph

Weights = Mapping[str, Tensor]
Taps = Mapping[str, Callable[[Tensor], Tensor]]
"""Space name to a function applied to that space's feature tensor wherever it is produced. A tap that returns its
argument observes; a tap that multiplies masks."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The hyperparameters every architecture has; subclasses add their own. JSON-able field types only.

    Attributes:
        elements: atomic numbers in the order of the model's one-hot encoding.
        cutoff: Angstrom.
        heads: names of the levels of theory of a multi-head model, empty for a single one.
        max_neighbors: an atom sees only so many of the nearest within the cutoff; None for all of them.
    """

    elements: tuple[int, ...]
    cutoff: float
    heads: tuple[str, ...] = ()
    max_neighbors: int | None = field(default=None, metadata=since(2))

    @property
    def inversion(self) -> bool:
        """Whether the energy is also invariant under inversion (O(3)); False claims rotations only (SO(3))."""
        return True

    @property
    def exact_rotations(self) -> bool:
        """Whether rotations change predictions by rounding only; False where features are activated on a grid."""
        return True

    @property
    def assembled(self) -> bool:
        """Whether a model must be put together by hand, because upstream's constructor cannot be told what it is."""
        return bool(self.why_not_stock)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a certificate should say of a model beside its numbers, in sentences."""
        return ()

    @property
    def why_not_stock(self) -> str:
        """What keeps upstream's own constructor from building this model, empty when it can.

        A model may be put together from upstream's blocks in ways that its constructor has no arguments for. It runs
        in the calculator; tools that rebuild a model from its hyperparameters cannot open it.
        """
        return ""


@dataclass(frozen=True)
class Checkpoint:
    """A model as data: what `ModelAdapter.read` returns and what the native format stores.

    Attributes:
        architecture: hyperparameters.
        weights: every parameter by its upstream name.
        licence: of the weights; travels with everything made from them.
        sha256: of the file read, empty for a model that never was a file.
        source: path or alias it came from.
        history: pruning and training steps since the original checkpoint, oldest first.
    """

    architecture: Any
    weights: Weights
    licence: str
    sha256: str = ""
    source: str = ""
    history: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, of most of their numbers where a constant has another."""
        numbers: Counter[torch.dtype] = Counter()
        for weight in self.weights.values():
            numbers[weight.dtype] += weight.numel()
        return max(numbers, key=numbers.__getitem__)

    def after(self, step: Step, weights: Weights, architecture: Any = None) -> Checkpoint:
        """The model after a step: no file yet, with the step in its history.

        Args:
            step: recorded with this checkpoint as its parent.
            weights: afterwards.
            architecture: afterwards; the same unless given.
        """
        record = {"step": step.name, "parent": self.source, "parent_sha256": self.sha256, **step.to_json()}
        changed = self.architecture if architecture is None else architecture
        return replace(self, architecture=changed, weights=weights, sha256="", history=(*self.history, record))


class ModelAdapter(ABC):
    """Everything equiprune knows about one architecture. Subclasses are final and hold no state."""

    name: str
    """Entry-point name, recorded in every file."""
    architecture_type: type[Architecture]
    """The frozen dataclass of hyperparameters."""
    suffixes: tuple[str, ...] = ()
    """File suffixes of upstream checkpoints this adapter writes, and that those it opens usually have."""
    looks_for: str = ""
    """The signs that `recognises` looks for in a file, as part of a sentence; empty where no file is opened."""
    direct_forces: bool = False
    """Whether forces are an output of their own (`energies_and_forces`) and not minus the gradient of the energy."""

    def aliases(self) -> Mapping[str, str]:
        """Short names of published models and what they stand for; must not import the backend."""
        return {}

    def recognises(self, path: Path) -> bool:
        """True for an upstream checkpoint of this architecture, whatever its name.

        Looks into the file, quickly and without running anything in it (`equiprune.files.outline` does for
        torch files); False for what cannot be read. Must not import the backend.
        """
        return False

    @abstractmethod
    def read(self, source: str | Path, *, trust: bool = False) -> Checkpoint:
        """Open an upstream checkpoint or an alias, without executing anything it contains unless ``trust``.

        Raises:
            CheckpointError: missing, truncated, foreign or unsafe file.
        """

    @abstractmethod
    def build(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        """An ordinary upstream module with freshly initialised weights, built in ``dtype``."""

    def build_for_training(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        """What `build` gives, arranged so that its gradients cost less: the same weights, predictions and gradients.

        It is never written to a file. The default is `build`.
        """
        return self.build(architecture, dtype)

    @abstractmethod
    def feature_spaces(self, architecture: Any) -> tuple[FeatureSpace, ...]:
        """Every space a plan may prune."""

    @abstractmethod
    def weight_layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        """The layout of every parameter of the module that `build` returns, and of buffers that carry information.

        Computed without building the module.
        """

    @abstractmethod
    def shrink(self, architecture: Any, plan: PruningPlan) -> Any:
        """The architecture that the plan leaves. Raises `PlanError` for what upstream cannot express."""

    @abstractmethod
    def energies(
        self, module: nn.Module, architecture: Any, graph: AtomicGraph, head: str | None, taps: Taps
    ) -> Tensor:
        """Energies (structures,) in eV, differentiable with respect to ``graph.positions`` and ``graph.strain``.

        Each tap is called where its space is produced, and its result is what the model goes on with: once for most
        spaces, several times for one that is made in several places (the features that every layer adds to). It is
        given a row per site, or several blocks of such rows one after another.
        """

    def energies_and_forces(
        self, module: nn.Module, architecture: Any, graph: AtomicGraph, head: str | None, taps: Taps
    ) -> tuple[Tensor, Tensor]:
        """Energies (structures,) in eV and forces (atoms, 3) in eV/Angstrom of a model with `direct_forces`."""
        raise NotImplementedError(f"{self.name} models have forces that are gradients")

    def rewrite_for_plan(self, architecture: Any, weights: Weights, plan: PruningPlan) -> tuple[Any, Weights]:
        """Rewrite the parent exactly where slicing alone cannot express the plan. The default changes nothing."""
        return architecture, weights

    def grow(self, architecture: Any, weights: Weights, growth: Growth) -> tuple[Any, Weights]:
        """The larger architecture and its weights, all float64. Raises `TargetError` for what it does not know."""
        raise TargetError(f"{self.name} models cannot grow ({type(growth).__name__}). Leave that out.")

    def with_references(
        self, architecture: Any, weights: Weights, changes: Mapping[int, float], head: str | None
    ) -> tuple[Any, Weights]:
        """Add ``changes[Z]`` (eV) to the energy of every atom of element Z, exactly; other heads stay as they are.

        Weights come and go in float64. See `per_element`. Raises `TargetError` where a model has no place for them.
        """
        raise TargetError(f"{self.name} models have no energies of elements that could change. Keep them as they are.")

    def with_scale(self, architecture: Any, weights: Weights, scale: float, head: str | None) -> tuple[Any, Weights]:
        """Set the factor (eV) on what the network gives for an atom, before energies of elements are added.

        Weights come and go in float64; other heads stay as they are. Raises `TargetError` for a model without one.
        """
        raise TargetError(f"{self.name} models have no energy scale that could change. Keep it as it is.")

    def why_not_exported(self, architecture: Any) -> str:
        """Why an upstream file cannot hold this model, as a sentence with what helps; empty when it can."""
        return ""

    def export(self, checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
        """Write an upstream checkpoint to ``path`` and companions beside it; the paths written."""
        raise OutputError(f"The {self.name} adapter writes no upstream format. Save to a directory (no suffix).")

    def stock_energies(self, path: Path, structures: Sequence[Atoms], head: str | None) -> list[float]:
        """Energies (eV) that the stock upstream calculator gives after opening a written file."""
        raise OutputError(f"The {self.name} adapter has no stock calculator.")

    def check_head(self, architecture: Architecture, head: str | None) -> None:
        """Raise `TargetError` unless ``head`` is one this model has (None for a single-head model)."""
        if architecture.heads and head not in architecture.heads:
            given = f"'{head}' is not a head of this model" if head else "This model has several heads"
            raise TargetError(f"{given}. Choose one with --head: {', '.join(architecture.heads)}.")
        if head is not None and not architecture.heads:
            raise TargetError(f"This model has a single head; --head {head} means nothing. Leave it out.")


def per_element(architecture: Architecture, values: Mapping[int, float]) -> Tensor:
    """Values by atomic number as a float64 tensor (elements,) in the order of the architecture, 0 where none is given.

    Raises:
        TargetError: an element that the model does not know.
    """
    if unknown := sorted(values.keys() - set(architecture.elements)):
        raise TargetError(f"This model does not know {', '.join(chemical_symbols[z] for z in unknown)}.")
    return torch.tensor([values.get(z, 0.0) for z in architecture.elements], dtype=torch.float64)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a module, every parameter exactly once, and buffers where there is a weight of their name.

    Raises:
        CheckpointError: a weight is missing, unexpected or of another shape.
    """
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    missing, unexpected = parameters.keys() - weights.keys(), weights.keys() - parameters.keys() - buffers.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"The weights do not belong to this architecture: missing {sorted(missing)}, "
            f"unexpected {sorted(unexpected)}."
        )
    with torch.no_grad():
        for name, weight in weights.items():
            held = parameters[name] if name in parameters else buffers[name]
            if held.shape != weight.shape:
                raise CheckpointError(
                    f"Weight {name} has shape {tuple(weight.shape)}, this architecture needs {tuple(held.shape)}."
                )
            held.copy_(weight)
