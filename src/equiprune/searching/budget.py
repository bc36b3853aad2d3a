"""Budgets: what a model may cost, and how far a cost is from that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from equiprune.errors import TargetError
from equiprune.files.settings import kind

_GIGABYTE = 10**9


@dataclass(frozen=True)
class Cost:
    """Cost of a model beside its parent's.

    Attributes:
        time: seconds of energy, forces and stress over the parent's, so that 0.5 is twice as fast.
        bytes_per_atom: peak memory of the same, without weights, over the number of atoms: as many as the budget says,
            or those that were timed. None where it cannot be measured.
        parameters: trainable parameters over the parent's.
    """

    time: float
    bytes_per_atom: float | None
    parameters: float

    @property
    def speed(self) -> float:
        """Atoms per second over the parent's."""
        return 1 / self.time

    def __str__(self) -> str:
        memory = "" if self.bytes_per_atom is None else f", {self.bytes_per_atom / 1e6:.3g} MB per atom"
        return f"{self.speed:.2f} times as fast and has {self.parameters:.3g} of the parameters{memory}"


@kind("budget")
@dataclass(frozen=True)
class Budget:
    """Limits that a model keeps, all of those that are given.

    Attributes:
        faster: at least so many times the parent's atoms per second; 1 or more.
        memory: peak memory in bytes, for ``atoms`` atoms.
        atoms: of the system that has to fit; with ``memory`` only.
        parameters: at most this fraction of the parent's trainable parameters.
        max_force_error: mean absolute difference of forces from the labels of structures that were held out,
            meV/Angstrom. The smallest model that keeps it is looked for.

    >>> budget = Budget(faster=4.0, parameters=0.5)
    >>> budget.excess(Cost(time=0.5, bytes_per_atom=None, parameters=0.25))  # half as fast as it should be
    2.0
    >>> str(budget)
    'at least 4 times as fast, at most 0.5 of the parameters'
    """

    faster: float | None = None
    memory: float | None = None
    atoms: int | None = None
    parameters: float | None = None
    max_force_error: float | None = None

    def __post_init__(self) -> None:
        if (self.memory is None) != (self.atoms is None):
            raise TargetError("`memory` is for so many `atoms`: give both or neither.")
        if self.faster is not None and not 1 <= self.faster < float("inf"):
            raise TargetError(f"`faster` {self.faster:g} is not possible: give 1 or more, such as 3 for three times.")
        if self.parameters is not None and not 0 < self.parameters <= 1:
            raise TargetError(f"`parameters` {self.parameters:g} is not possible: give a fraction above 0 and up to 1.")
        for name in ("memory", "atoms", "max_force_error"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise TargetError(f"`{name}` {value:g} is not possible: give a positive number.")
        if not any((self.faster, self.memory, self.parameters, self.max_force_error)):
            raise TargetError(
                "Say what you can afford: `faster`, `memory` with `atoms`, `parameters` or `max_force_error`."
            )

    def excess(self, cost: Cost) -> float:
        """Cost over what is allowed, of what is exceeded most: 1 or less fits."""
        return max(self._excesses(cost), default=0.0)

    def _excesses(self, cost: Cost) -> Iterator[float]:
        if self.faster is not None:
            yield cost.time * self.faster
        if self.memory is not None and self.atoms is not None:
            yield float("inf") if cost.bytes_per_atom is None else cost.bytes_per_atom * self.atoms / self.memory
        if self.parameters is not None:
            yield cost.parameters / self.parameters

    def __str__(self) -> str:
        return ", ".join(self._said())

    def _said(self) -> Iterator[str]:
        if self.faster is not None:
            yield f"at least {self.faster:g} times as fast"
        if self.memory is not None:
            yield f"at most {self.memory / _GIGABYTE:.3g} GB for {self.atoms} atoms"
        if self.parameters is not None:
            yield f"at most {self.parameters:g} of the parameters"
        if self.max_force_error is not None:
            yield f"the smallest with force errors up to {self.max_force_error:g} meV/Angstrom"
