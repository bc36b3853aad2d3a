"""Properties of matter as values: which quantities there are, of which structures, and how they are measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from equiprune.errors import StructureError
from equiprune.evaluation.properties.outcomes import Values
from equiprune.evaluation.properties.subjects import Subject
from equiprune.structures.global_inputs import GlobalInput


@dataclass(frozen=True)
class Quantity:
    """A number that a model has for a structure.

    Attributes:
        name: in results.
        title: in tables.
        unit: in results and in tables; empty for plain numbers.
        reference: the entry of ``info`` that holds a known value in this unit; empty where there is none.
    """

    name: str
    title: str
    unit: str
    reference: str = ""


@dataclass(frozen=True)
class Model:
    """A model as properties see it.

    Attributes:
        calculator: energy in eV, forces in eV/Angstrom, stress in eV/Angstrom^3, of ASE's interface.
        elements: atomic numbers it knows; None for all.
        cutoff: Angstrom, within which it sees neighbours.
        inputs: numbers of a whole structure that it reads, such as its charge.
    """

    calculator: Calculator
    elements: frozenset[int] | None = None
    cutoff: float = 6.0
    inputs: Sequence[GlobalInput] = ()


@dataclass(frozen=True)
class Relaxed:
    """A crystal at rest.

    Attributes:
        atoms: relaxed, without a calculator.
        energy: eV, of the cell.
        steps: of the optimiser.
    """

    atoms: Atoms
    energy: float
    steps: int


class Property(ABC):
    """Base of properties: frozen dataclasses, whose fields are how they are measured."""

    name: ClassVar[str]
    """In results, and on the command line."""
    quantities: ClassVar[tuple[Quantity, ...]]
    needs_stress: ClassVar[bool] = True
    """True if models without a stress cannot be measured."""

    def check_installed(self) -> None:  # noqa: B027 (most need no package)
        """Raise `EquipruneError` saying what to install, if a package is missing."""

    @abstractmethod
    def measure(self, subject: Subject, model: Model, at_rest: Callable[[], Relaxed]) -> Values:
        """The values of a structure with a model.

        Args:
            subject: the structure.
            model: the model.
            at_rest: the structure relaxed with the model, once it is asked for.

        Raises:
            UnmeasurableError: there are none, and why.
        """

    def of(self, structures: Mapping[str, Atoms]) -> Examination:
        """The measurement of these structures, by name; known values are read from their ``info``.

        Raises:
            StructureError: a known value is not a finite number.
        """
        return Examination(self, tuple(Subject(n, a, self._references(n, a)) for n, a in structures.items()))

    def _references(self, name: str, atoms: Atoms) -> dict[str, float]:
        known = {q.name: q.reference for q in self.quantities if q.reference and q.reference in atoms.info}
        return {quantity: _number(name, key, atoms.info[key]) for quantity, key in known.items()}


def _number(name: str, key: str, given: object) -> float:
    """An entry of ``info``; raises `StructureError` for anything but a finite number."""
    try:
        value = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise StructureError(f"Structure {name} has {key} {given}, which is no finite number. Remove the entry.")
    return value


@dataclass(frozen=True)
class Examination:
    """A property and the structures that it is measured of."""

    examined: Property
    subjects: Sequence[Subject]
