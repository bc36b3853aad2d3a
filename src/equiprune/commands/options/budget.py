"""Budgets: what a model may cost."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, EvaluationEngineName, NotNegative, Positive
from equiprune.errors import TargetError
from equiprune.evaluation.places import check_measurable
from equiprune.searching.budget import Budget
from equiprune.searching.material import Effort

_ON_CPU, _ON_GPU = 64, 2048
"""Atoms that models are timed on unless a number is given: few on a GPU would time its overhead."""
_UNITS = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@Parameter(name="*", group=panel("What you can afford"))
@dataclass(frozen=True)
class BudgetOptions(Complete):
    """Budgets; options combine.

    Attributes:
        faster: at least so many times the parent's speed, e.g. 3.
        memory: peak memory, e.g. 8GB, of --atoms.
        atoms: of the system that --memory is for.
        parameters: at most this fraction of the parent's trainable parameters, e.g. 0.3.
        max_force_error: look for the smallest model whose forces are within so many meV/Angstrom of the labels of
            structures held out, on average.
        keep_lmax: hidden features and harmonics keep every l up to this, wherever they have it.
        engine: code whose speed and memory are meant, equiprune's or upstream's own; where the model will run decides.
    """

    faster: float | None = None
    memory: str | None = None
    atoms: Positive | None = None
    parameters: float | None = None
    max_force_error: float | None = None
    keep_lmax: NotNegative = 0
    engine: EvaluationEngineName = "equiprune"

    def check(self) -> None:
        if self.memory is not None:
            read_bytes(self.memory)

    def check_memory(self, device: str) -> None:
        """Raise `TargetError` unless the memory that is limited can be measured here."""
        if self.memory is not None and device == "cpu":
            check_measurable()

    def budget(self) -> Budget:
        """The same as a value of the API; raises `TargetError` where nothing is limited."""
        memory = None if self.memory is None else read_bytes(self.memory)
        return Budget(self.faster, memory, self.atoms, self.parameters, self.max_force_error)


def read_bytes(text: str) -> float:
    """Bytes of a text such as ``"8GB"``; raises `TargetError` for what is no amount of memory.

    >>> read_bytes("8GB"), read_bytes("512 MiB")
    (8000000000.0, 536870912.0)
    """
    found = re.fullmatch(r"([\d.]+)\s*([a-zA-Z]+)", text.strip())
    try:
        if found is None:
            raise ValueError(text)
        return float(found[1]) * _UNITS[found[2].upper()]
    except (ValueError, KeyError):
        raise TargetError(f"`memory` '{text}' is no amount of memory. Give e.g. 8GB or 512MB.") from None


@Parameter(name="*", group=panel("How long it searches"))
@dataclass(frozen=True)
class EffortOptions(Complete):
    """Effort of a search.

    Attributes:
        measured: models with random widths whose time is measured, to predict that of others.
        candidates: models that are built, repaired and compared.
        finalists: models that are measured and trained briefly.
        steps: of that training; 0 for none.
        structures: most structures that a repair looks at, and most that errors are of.
    """

    measured: Positive = 20
    candidates: Positive = 24
    finalists: Positive = 3
    steps: NotNegative = 200
    structures: Positive = 60

    def check(self) -> None:
        self.effort()

    def effort(self) -> Effort:
        """The same as a value of the API."""
        return Effort(self.measured, self.candidates, self.finalists, self.steps, self.structures)


def timed_atoms(given: int | None, device: str) -> int:
    """Atoms that models are timed on: what is given, or as many as fill the device."""
    return given or (_ON_CPU if device == "cpu" else _ON_GPU)


NO_BUDGET, USUAL_EFFORT = BudgetOptions(), EffortOptions()
"""Nothing said."""
