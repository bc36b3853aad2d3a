"""Engines of an architecture: code of another package that evaluates models of that architecture, and no others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar

import torch

from equiprune.adapters.base import Checkpoint
from equiprune.adapters.evaluation import Outputs
from equiprune.structures.graph import AtomicGraph

Evaluator = Callable[[AtomicGraph], Outputs]
"""A model, ready to be evaluated: energies are differentiable once in the positions and the strain."""


@dataclass(frozen=True)
class Limits:
    """The largest differences that are allowed in float64.

    Attributes:
        energy: from upstream's code, eV/atom.
        forces: from upstream's code, eV/Angstrom.
        derivative: of forces from finite differences of the energy, eV/Angstrom.
    """

    energy: float = 1e-10
    forces: float = 1e-9
    derivative: float = 1e-5


class ArchitectureEngine(ABC):
    """Code of another package that evaluates models of one architecture.

    Attributes:
        name: as it is asked for.
        extra: of equiprune that installs the package.
        limits: of its differences from upstream's code: those of rounding, unless it approximates.
    """

    name: ClassVar[str]
    extra: ClassVar[str]
    limits: ClassVar[Limits] = Limits()

    @abstractmethod
    def why_not_here(self) -> str:
        """The reason why this machine has no such code, with what helps; empty where it has. Imports nothing heavy."""

    @abstractmethod
    def evaluator(
        self, checkpoint: Checkpoint, elements: Collection[int], dtype: torch.dtype, head: str | None
    ) -> Evaluator:
        """A model as this code evaluates it, on a CPU.

        Args:
            checkpoint: the model.
            elements: atomic numbers of the structures that it will be given.
            dtype: of the arithmetic, torch.float32 or torch.float64.
            head: the level of theory, of a model that has several.

        Raises:
            TargetError: it cannot evaluate such a model, or is not here; says why.
        """
