"""Capabilities of some architectures: an adapter with the methods of a protocol has that capability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from ase import Atoms
from torch import Tensor, nn

from equiprune.adapters.growth import Growth
from equiprune.adapters.uses import Use
from equiprune.blocks import LinearMap, PruningPlan
from equiprune.files.download import PackagedFile, PublishedFile

if TYPE_CHECKING:
    from equiprune.adapters.engines import ArchitectureEngine
    from equiprune.adapters.pair_style import PairStyle

Weights = Mapping[str, Tensor]
"""Every parameter by its upstream name."""


@runtime_checkable
class Exports(Protocol):
    """Upstream's own tools open what it writes."""

    def why_not_exported(self, architecture: Any, /) -> str:
        """The reason why an upstream file cannot hold this model, with what helps; empty when it can."""

    def export(self, checkpoint: Any, path: Path, /) -> tuple[Path, ...]:
        """Write an upstream checkpoint to ``path`` and companions beside it; the paths written."""

    def stock_energies(self, path: Path, structures: Sequence[Atoms], head: str | None, /) -> list[float]:
        """Energies (eV) that the stock upstream calculator gives after opening a written file."""


@runtime_checkable
class HasPairStyles(Protocol):
    """Builds of LAMMPS that upstream describes evaluate its exported models."""

    def pair_styles(self, architecture: Any, file: str, head: str | None, /) -> Iterable[PairStyle]:
        """Pair styles for an exported file, by its name in the folder where LAMMPS runs; the usual one first."""


@runtime_checkable
class HasUses(Protocol):
    """It is known which programs use a file that it writes, and by which lines."""

    def uses(self, architecture: Any, file: str, /) -> Sequence[Use]:
        """Lines to copy for each of these programs, those of its own package first; the backend is not imported.

        Args:
            architecture: of the model; a program that cannot open such a model is left out.
            file: name of the written file, as it is typed.
        """


@runtime_checkable
class Grows(Protocol):
    """Models can become larger, with the function unchanged where that is asked for."""

    def grow(self, architecture: Any, weights: Weights, growth: Growth, /) -> tuple[Any, Weights]:
        """The larger architecture and its weights, all float64. Raises `TargetError` for what it does not know."""


@runtime_checkable
class Rewrites(Protocol):
    """Some plans are a slice only after the parent was written in another form."""

    def rewrite_for_plan(self, architecture: Any, weights: Weights, plan: PruningPlan, /) -> tuple[Any, Weights]:
        """The parent with the same function, in a form of which the plan is a slice."""


@runtime_checkable
class HasAtomicEnergies(Protocol):
    """The model adds a constant energy to every atom of an element."""

    def with_references(
        self, architecture: Any, weights: Weights, changes: Mapping[int, float], head: str | None, /
    ) -> tuple[Any, Weights]:
        """Add ``changes[Z]`` (eV) to the energy of every atom of element Z, exactly; other heads stay as they are.

        Weights come and go in float64. See `equiprune.adapters.base.per_element`. Raises `TargetError` for an element
        that the model does not know.
        """


@runtime_checkable
class HasEnergyScale(Protocol):
    """The model multiplies what the network gives for an atom."""

    def with_scale(self, architecture: Any, weights: Weights, scale: float, head: str | None, /) -> tuple[Any, Weights]:
        """Set the factor (eV) on what the network gives for an atom, before atomic reference energies are added.

        Weights come and go in float64; other heads stay as they are. Raises `TargetError` for a model without one.
        """


@runtime_checkable
class BuildsForEvaluation(Protocol):
    """Upstream's function can be evaluated in less time than by upstream's code."""

    def build_for_evaluation(self, architecture: Any, dtype: torch.dtype, /) -> nn.Module:
        """The module of `ModelAdapter.build` with less work: weights of the same names, the same function to rounding.

        It is never in a file: what is written comes from `ModelAdapter.build`.
        """


@runtime_checkable
class HasEngines(Protocol):
    """Code of other packages can evaluate the models as well."""

    def engines(self) -> Sequence[ArchitectureEngine]:
        """That code, each with a name of its own, whether this machine has it or not."""


@runtime_checkable
class BuildsForTraining(Protocol):
    """Modules can be arranged so that their gradients cost less."""

    def build_for_training(self, architecture: Any, dtype: torch.dtype, /) -> nn.Module:
        """The module of `ModelAdapter.build` with cheaper gradients and the same predictions; never in a file."""


@runtime_checkable
class Publishes(Protocol):
    """It is known where models of an alias come from, and under which licence, before they are opened."""

    def published(self) -> Mapping[str, PublishedFile | PackagedFile]:
        """The file of each alias; the backend is not imported, and what it publishes is known where it is installed."""


@runtime_checkable
class HasLinearMaps(Protocol):
    """Channels are mixed by linear maps whose inputs and outputs can be seen."""

    def linear_maps(self, architecture: Any, /) -> Sequence[Sequence[LinearMap]]:
        """The linear maps that can be fitted to what should come out of them, in the order of the forward pass.

        Those of one group do not see what the others of it make. Every submodule named is called once in an evaluation.
        """

    def linear_spaces(self, architecture: Any, /) -> Sequence[str]:
        """Names of spaces that linear maps alone make and read, those of an element each among them.

        The channels of an irrep can be mixed by any matrix, and the model stays the same if what reads them undoes it.
        """
