"""The contract of an architecture: what an adapter must say so that everything else works.

An adapter does no pruning. It reads a checkpoint into plain data (hyperparameters and named weights), *declares* its
feature spaces and weight layouts, says what a plan does to the hyperparameters, builds the ordinary upstream module,
and evaluates it with *taps* on the feature spaces. The core does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from equiprune.adapters.capabilities import Weights
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.adapters.history import Step
from equiprune.adapters.hyperparameters import since
from equiprune.blocks import FeatureSpace, PruningPlan, WeightLayout, resized
from equiprune.errors import CheckpointError, TargetError
from equiprune.structures.global_inputs import GlobalInput
from equiprune.structures.graph import AtomicGraph


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
    def direct_forces(self) -> bool:
        """True where forces are an output of their own; else they are minus the gradient of the energy."""
        return False

    @property
    def global_inputs(self) -> tuple[GlobalInput, ...]:
        """Numbers of a whole structure that the model reads besides its atoms (`AtomicGraph.global_inputs`)."""
        return ()

    @property
    def inversion(self) -> bool:
        """True if the energy is also invariant under inversion (O(3)); False claims rotations only (SO(3))."""
        return True

    @property
    def exact_rotations(self) -> bool:
        """True if rotations change predictions by rounding only; False where features are activated on a grid."""
        return True

    @property
    def assembled(self) -> bool:
        """True if a model must be put together by hand, because upstream's constructor cannot be told of it."""
        return bool(self.why_not_stock)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences that a certificate shows beside the numbers of a model."""
        return ()

    @property
    def why_not_stock(self) -> str:
        """The reason why upstream's own constructor cannot build this model, empty when it can.

        A model may be put together from upstream's blocks in ways that its constructor has no arguments for. It runs
        in the calculator; tools that rebuild a model from its hyperparameters cannot open it.
        """
        return ""


A = TypeVar("A", bound=Architecture)
"""The hyperparameters of one architecture."""


@dataclass(frozen=True)
class Checkpoint(Generic[A]):
    """A model as data: what `ModelAdapter.read` returns and what the native format stores.

    Attributes:
        architecture: hyperparameters.
        weights: every parameter by its upstream name.
        licence: of the weights; travels with everything made from them.
        sha256: of the file read, empty for a model that never was a file.
        source: path or alias it came from.
        history: pruning and training steps since the original checkpoint, oldest first.
    """

    architecture: A
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

    def after(self, step: Step, weights: Weights, architecture: A | None = None) -> Checkpoint[A]:
        """The model after a step: no file yet, with the step in its history.

        Args:
            step: recorded with this checkpoint as its parent.
            weights: afterwards.
            architecture: afterwards; the same unless given.
        """
        record = {"step": step.name, "parent": self.source, "parent_sha256": self.sha256, **step.to_json()}
        changed = self.architecture if architecture is None else architecture
        return replace(self, architecture=changed, weights=weights, sha256="", history=(*self.history, record))


class ModelAdapter(ABC, Generic[A]):
    """Everything equiprune knows about one architecture, as functions of plain data: an adapter holds no state.

    What only some architectures can do is in `equiprune.adapters.capabilities`: an adapter that has the methods of a
    capability has the capability.
    """

    name: str
    """Entry-point name, recorded in every file."""
    architecture_type: type[A]
    """The frozen dataclass of hyperparameters."""
    suffixes: tuple[str, ...] = ()
    """File suffixes of upstream checkpoints this adapter writes, and that those it opens usually have."""
    looks_for: str = ""
    """The signs that `recognises` looks for in a file, as part of a sentence; empty where no file is opened."""
    packages: tuple[str, ...] = ()
    """Names, in the package index, of what must be installed to evaluate its models."""
    aliases: Mapping[str, str] = MappingProxyType({})
    """Short names of published models and what they stand for."""
    preset: str = "mace-universal"
    """Name in `equiprune.training.recipe.PRESETS` of what ``equiprune train`` takes unless another is named."""

    def recognises(self, path: Path, /) -> bool:
        """True for an upstream checkpoint of this architecture, whatever its name.

        Looks into the file, quickly and without running anything in it (`equiprune.files.outline` does for
        torch files); False for what cannot be read. Must not import the backend.
        """
        return False

    @abstractmethod
    def read(self, source: str | Path, /, *, trust: bool = False) -> Checkpoint[A]:
        """Open an upstream checkpoint or an alias, without executing anything it contains unless ``trust``.

        Raises:
            CheckpointError: missing, truncated, foreign or unsafe file.
        """

    @abstractmethod
    def build(self, architecture: A, dtype: torch.dtype, /) -> nn.Module:
        """An ordinary upstream module with freshly initialised weights, built in ``dtype``."""

    @abstractmethod
    def spaces(self, architecture: A, /) -> tuple[FeatureSpace, ...]:
        """Every space a plan may prune."""

    @abstractmethod
    def layouts(self, architecture: A, /) -> Mapping[str, WeightLayout]:
        """The layout of every parameter of the module that `build` returns, and of buffers that carry information.

        Computed without building the module.
        """

    def shrink(self, architecture: A, plan: PruningPlan, /) -> A:
        """The architecture that the plan leaves. Raises `PlanError` for what upstream cannot express.

        The default writes what is kept of every space into the fields that the space names (`FeatureSpace.size_in`).
        """
        return resized(architecture, self.spaces(architecture), plan)

    @abstractmethod
    def evaluate(
        self, module: nn.Module, architecture: A, graph: AtomicGraph, head: str | None, taps: Taps, /
    ) -> Outputs:
        """Energies, differentiable in ``graph.positions`` and ``graph.strain``, and forces where they are an output.

        Every feature space is passed to ``taps`` where it is produced, and the model goes on with what comes back: once
        for most spaces, several times for one that is made in several places (the features that every layer adds to).
        The tensor has a row per site, or several blocks of such rows one after another.
        """


def check_head(architecture: Architecture, head: str | None) -> None:
    """Raise `TargetError` unless ``head`` is one this model has (None for a single-head model)."""
    if architecture.heads and head not in architecture.heads:
        given = f"'{head}' is not a head of this model" if head else "This model has several heads"
        raise TargetError(f"{given}. Choose one with `head`: {', '.join(architecture.heads)}.")
    if head is not None and not architecture.heads:
        raise TargetError(f"This model has a single head; `head` {head} means nothing. Leave it out.")


def species(architecture: Architecture, numbers: Tensor) -> Tensor:
    """Place of every atom's element in the order of the architecture, (atoms,), for one-hot encodings and embeddings.

    Args:
        architecture: knows the elements.
        numbers: (atoms,) atomic numbers of elements that it knows.

    >>> species(Architecture(elements=(8, 1), cutoff=5.0), torch.tensor([1, 1, 8]))
    tensor([1, 1, 0])
    """
    elements = torch.tensor(architecture.elements, device=numbers.device)
    table = torch.full((max(architecture.elements) + 1,), -1, device=numbers.device)
    table[elements] = torch.arange(len(elements), device=numbers.device)
    return table[numbers]


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
