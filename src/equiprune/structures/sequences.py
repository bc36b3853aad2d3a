"""Sequences of structures, read when they are asked for, in which each knows where it is from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import overload

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols


def no_elements(atoms: Atoms) -> list[int]:
    """Atomic numbers that no element has, which files of numbers may hold; without them every number is one.

    >>> no_elements(Atoms(numbers=[8, 200, -1]))
    [-1, 200]
    """
    outside = (atoms.numbers < 0) | (atoms.numbers >= len(chemical_symbols))
    return sorted({int(z) for z in atoms.numbers[outside]})


@dataclass(frozen=True)
class Origin:
    """The origin of a structure, as errors say it.

    Attributes:
        number: in the file or files given, counted from 0; None for a structure that is alone.
        use: what it is for: training, validation, replay; empty where that goes without saying.

    >>> str(Origin(148, "training")), Origin(148).of(Atoms("C4H4")), Origin(None).of(Atoms("H"))
    ('Structure 148 for training', 'Structure 148 (C4H4)', 'The structure (H)')
    """

    number: int | None
    use: str = ""

    def __str__(self) -> str:
        which = "The structure" if self.number is None else f"Structure {self.number}"
        return f"{which} for {self.use}" if self.use else which

    def of(self, atoms: Atoms) -> str:
        """With the formula of the structure, where its atoms are elements."""
        formula = atoms.get_chemical_formula() if not no_elements(atoms) else f"{len(atoms)} atoms"
        return f"{self} ({formula or 'empty'})"


def origin(structures: Iterable[Atoms], index: int, use: str = "") -> Origin:
    """The origin of the structure at a place of a sequence; what is no view of another one is its own origin.

    >>> origin(Selection([Atoms("H"), Atoms("C"), Atoms("O")], [2, 0]), 0)
    Origin(number=2, use='')
    """
    found = structures.origin(index) if isinstance(structures, Structures) else Origin(index)
    return found if found.use else replace(found, use=use)


def sizes(structures: Sequence[Atoms]) -> np.ndarray:
    """Atoms of each structure, shape (structures,).

    >>> sizes([Atoms("H2O"), Atoms("H")])
    array([3, 1])
    """
    if isinstance(structures, Structures):
        return structures.sizes
    return np.array([len(atoms) for atoms in structures], dtype=np.int64)


class Structures(Sequence[Atoms], ABC):
    """Structures that are read when they are asked for; a slice is a view of the same kind."""

    @abstractmethod
    def read(self, index: int) -> Atoms:
        """The structure of this number, counted from 0."""

    def origin(self, index: int) -> Origin:
        """The origin of the structure of this number."""
        return Origin(index)

    @property
    def sizes(self) -> np.ndarray:
        """Atoms of each structure, shape (structures,); every one is read for it where the file does not say."""
        return np.array([len(atoms) for atoms in self], dtype=np.int64)

    @overload
    def __getitem__(self, index: int) -> Atoms: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Atoms]: ...
    def __getitem__(self, index: int | slice) -> Atoms | Sequence[Atoms]:
        if isinstance(index, slice):
            return Selection(self, np.arange(len(self))[index])
        return self.read(range(len(self))[index])


@dataclass(frozen=True, eq=False)
class Selection(Structures):
    """Some structures of a sequence, in the order of ``indices``, shape (structures,).

    >>> [str(atoms.symbols) for atoms in Selection([Atoms("H"), Atoms("C"), Atoms("O")], [2, 0])]
    ['O', 'H']
    """

    source: Sequence[Atoms]
    indices: Sequence[int] | np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Atoms:
        return self.source[int(self.indices[index])]

    def origin(self, index: int) -> Origin:
        return origin(self.source, int(self.indices[index]))

    @property
    def sizes(self) -> np.ndarray:
        return sizes(self.source)[np.asarray(self.indices, dtype=np.int64)]


@dataclass(frozen=True, eq=False)
class Concatenation(Structures):
    """Sequences one after another: the shards of a data set, counted together; or with ``uses`` sets of their own.

    >>> [str(atoms.symbols) for atoms in Concatenation([[Atoms("H")], [Atoms("C"), Atoms("O")]])]
    ['H', 'C', 'O']
    >>> str(Concatenation([[Atoms("H")], [Atoms("C"), Atoms("O")]], uses=("training", "replay")).origin(2))
    'Structure 1 for replay'
    """

    parts: Sequence[Sequence[Atoms]]
    uses: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", list(accumulate(map(len, self.parts))))

    def __len__(self) -> int:
        ends: list[int] = vars(self)["_ends"]
        return ends[-1] if ends else 0

    def read(self, index: int) -> Atoms:
        part, within = self._place(index)
        return self.parts[part][within]

    def origin(self, index: int) -> Origin:
        if not self.uses:
            return Origin(index)
        part, within = self._place(index)
        return origin(self.parts[part], within, self.uses[part])

    @property
    def sizes(self) -> np.ndarray:
        return np.concatenate([sizes(part) for part in self.parts])

    def _place(self, index: int) -> tuple[int, int]:
        """Index of the part and position inside it."""
        ends: list[int] = vars(self)["_ends"]
        part = bisect_right(ends, index)
        return part, index - (ends[part - 1] if part else 0)


@dataclass(frozen=True, eq=False)
class Mapped(Structures):
    """A view of a sequence: a function of each structure."""

    source: Sequence[Atoms]
    function: Callable[[Atoms], Atoms]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> Atoms:
        return self.function(self.source[index])

    def origin(self, index: int) -> Origin:
        return origin(self.source, index)
