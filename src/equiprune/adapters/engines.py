"""Engines of an architecture: code of another package that evaluates models of that architecture, and no others.

A `NativeEngine` evaluates a model by itself, a `FileEngine` from a file of its own kind; a `KernelEngine` brings parts
of the module that upstream builds.
"""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from torch import nn

from equiprune.adapters.base import Checkpoint
from equiprune.adapters.evaluation import Outputs
from equiprune.adapters.precision import dtype_name
from equiprune.errors import TargetError
from equiprune.structures.graph import AtomicGraph

Evaluator = Callable[[AtomicGraph], Outputs]
"""A model, ready to be evaluated: energies are differentiable once in the positions and the strain."""

CPU, CUDA = "cpu", "cuda"
"""Types of devices that engines run on."""


@dataclass(frozen=True)
class Limits:
    """The largest differences that are allowed in the precision in which an engine is compared.

    Those of forces are relative to the largest force where this is above 1 eV/Angstrom.

    Attributes:
        energy: from upstream's code in float64, eV/atom.
        forces: from upstream's code in float64, eV/Angstrom.
        derivative: of forces from finite differences of the energy, eV/Angstrom.
        step: of these finite differences, Angstrom.
    """

    energy: float = 1e-10
    forces: float = 1e-9
    derivative: float = 1e-5
    step: float = 1e-3


class ArchitectureEngine(ABC):
    """Code of another package that evaluates models of one architecture.

    Attributes:
        name: as it is asked for.
        packages: by the name that is imported, the name that the package is installed as.
        install: what to type, or to do, to install them.
        devices: types of devices that it runs on.
        dtypes: of its arithmetic; the most precise one first, in which it is compared with upstream's code.
        limits: of its differences from upstream's code: those of rounding, unless it approximates.
        measured: page on which it was faster than upstream's code; empty where nothing was measured.
    """

    name: ClassVar[str]
    packages: ClassVar[Mapping[str, str]]
    install: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = (CPU,)
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float64, torch.float32)
    limits: ClassVar[Limits] = Limits()
    measured: ClassVar[str] = ""

    def is_made_for_this_machine(self) -> bool:
        """False where there are no packages for this system and processor."""
        return True

    def missing(self) -> tuple[str, ...]:
        """Packages that are not installed. Imports nothing."""
        return tuple(package for module, package in self.packages.items() if find_spec(module) is None)

    def why_not_here(self) -> str:
        """The reason why this machine cannot run it, its device before its packages; empty where it can.

        Imports nothing heavy.
        """
        if not self._has_device():
            return "torch sees no NVIDIA GPU"
        missing = self.missing()
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed" if missing else ""

    def check(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raise `TargetError` unless it is here and runs on a device in a precision."""
        called = f"The engine '{self.name}'"
        if not self._has_device():
            raise TargetError(f"{called} is not here: {self.why_not_here()}. Choose another engine.")
        if device.type not in self.devices:
            raise TargetError(
                f"{called} runs on {' or '.join(self.devices)}, and the model is on {device.type}. Open the model on "
                f"{self.devices[0]}, or choose another engine."
            )
        if missing := self.missing():
            raise TargetError(f"{called} is not here: {self.why_not_here()}. {self._to_get(missing)}.")
        if dtype not in self.dtypes:
            raise TargetError(
                f"{called} computes in {' or '.join(map(dtype_name, self.dtypes))}, not in {dtype_name(dtype)}."
            )

    def _has_device(self) -> bool:
        return CPU in self.devices or torch.cuda.is_available()

    def _to_get(self, missing: tuple[str, ...]) -> str:
        if not self.is_made_for_this_machine():
            return f"There is none for {platform.system()} on {platform.machine()}; choose another engine"
        return f"Install {'it' if len(missing) == 1 else 'them'} with: {self.install}"


class NativeEngine(ArchitectureEngine):
    """Code that evaluates a model by itself, without its module."""

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


class FileEngine(NativeEngine):
    """Code that evaluates files of its own kind, which models are converted to.

    Attributes:
        suffix: of these files.
    """

    suffix: ClassVar[str]

    @abstractmethod
    def write(self, checkpoint: Checkpoint, elements: Collection[int], head: str | None, path: Path) -> None:
        """Convert a model, for structures of these elements, to a file; ``head`` as for `evaluator`.

        Raises:
            TargetError: it cannot convert such a model, or is not here; says why.
        """

    @abstractmethod
    def opened(self, path: Path, dtype: torch.dtype) -> Evaluator:
        """A file that was written, as the package itself opens it. Raises `TargetError` where it does not."""

    def evaluator(
        self, checkpoint: Checkpoint, elements: Collection[int], dtype: torch.dtype, head: str | None
    ) -> Evaluator:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"converted{self.suffix}"
            self.write(checkpoint, elements, head, path)
            return self.opened(path, dtype)


class KernelEngine(ArchitectureEngine):
    """Kernels for parts of the module, which upstream's own code puts there."""

    devices = (CUDA,)

    @abstractmethod
    def built(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """The module with these kernels and the weights of a model, on a device.

        Raises:
            TargetError: the model has a form that upstream does not build so.
            Exception: whatever upstream's code and the kernels raise.
        """

    @abstractmethod
    def convolutions(self, module: nn.Module) -> Collection[nn.Module]:
        """The parts of a built module that the kernels should have replaced."""

    @property
    @abstractmethod
    def written_in(self) -> str:
        """The Python module, or the package, that the classes of `convolutions` are from."""

    def module(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """The same as `built`, checked to have the kernels.

        Raises:
            TargetError: upstream cannot build it, or built something else in its place.
        """
        try:
            module = self.built(checkpoint, dtype, device).eval()
        except TargetError:
            raise
        except Exception as error:  # of any code of upstream and of the kernels
            message = " ".join(str(error).split())[:400]
            raise TargetError(
                f"The engine '{self.name}' cannot evaluate this model ({type(error).__name__}: {message})."
            ) from error
        for convolution in self.convolutions(module):
            self._check_class(type(convolution))
        return module

    def _check_class(self, built: type) -> None:
        if not f"{built.__module__}.".startswith(f"{self.written_in}."):
            raise TargetError(
                f"The engine '{self.name}' was asked for, and upstream built {built.__name__} of {built.__module__} in "
                "its place. Nothing was evaluated. Look at what upstream says of the package, or choose another engine."
            )
