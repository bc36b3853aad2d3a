"""Targets that name what is kept, in an order that has a meaning: elements and heads."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from ase.data import atomic_numbers, chemical_symbols

from equiprune.blocks import BlockMask, PruningPlan, Role
from equiprune.errors import TargetError, closest
from equiprune.files.settings import kind
from equiprune.pruning.counts import PruningProblem
from equiprune.pruning.targets.target import Target


class Named(Target):
    """Exactly what is named is kept, in that order, whatever else a plan says."""

    role: Role

    @abstractmethod
    def wanted(self) -> Sequence[str]:
        """Names of what is kept."""

    @abstractmethod
    def known(self, model: PruningProblem) -> Sequence[str]:
        """Names of what the model has, in its order."""

    def keeps(self, model: PruningProblem) -> PruningPlan:
        names, known, what = list(self.wanted()), list(self.known(model)), self.role.name
        if not known:
            raise TargetError(
                f"{', '.join(names)} cannot be chosen: this model has a single one of its {what}. Leave it out."
            )
        for name in names:
            if name not in known:
                raise TargetError(f"The model does not know {name}. It knows {', '.join(known)}.")
        if not names or len(set(names)) != len(names):
            raise TargetError(f"Name each of the {what} to keep exactly once, at least one.")
        [space] = model.some(self.role)
        kept = {space.irreps.entries[0][1]: [known.index(name) for name in names]}
        return PruningPlan({space.name: BlockMask.keep(space.irreps, kept)})

    def check(self, model: PruningProblem, explicit: PruningPlan) -> None:
        for name, mask in self.keeps(model).masks.items():
            if explicit.masks[name] != mask:
                raise TargetError(f"The plan and the other targets disagree on which {name} to keep. Leave out one.")


@kind("elements", "Elements")
@dataclass(frozen=True)
class Elements(Named):
    """Exactly these elements, in this order; removing an element changes nothing for the others.

    >>> Elements.parse("H,O").numbers
    (1, 8)
    """

    role = Role.ELEMENTS
    numbers: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Elements:
        """Read chemical symbols in any case, or atomic numbers, apart by commas, spaces, or as in Li-P-S.

        Raises:
            TargetError: a word is no element, or could be one or two.

        >>> Elements.parse("h, o") == Elements.parse("1 8") == Elements.parse("H-O") == Elements.parse("['H', 'O']")
        True
        """
        return cls(tuple(_number(word) for word in _BETWEEN.split(text) if word))

    def wanted(self) -> Sequence[str]:
        return [chemical_symbols[z] for z in self.numbers]

    def known(self, model: PruningProblem) -> Sequence[str]:
        return [chemical_symbols[z] for z in model.architecture.elements]


_BETWEEN = re.compile(r"""[\s,;:/+()\[\]{}'"]+|(?<=[A-Za-z])-(?=[A-Za-z])""")
"""Separators of elements."""


def _number(word: str) -> int:
    """The atomic number that a word means. Raises `TargetError` for what is no element."""
    symbol = word.capitalize()
    if word.isdecimal() and 0 < int(word) < len(chemical_symbols):
        return int(word)
    if len(word) == 2 and word.isupper() and set(word) < atomic_numbers.keys() and symbol in atomic_numbers:
        raise TargetError(f"'{word}' may be {symbol} or {word[0]},{word[1]}. Write the one that is meant.")
    if symbol in ("D", "T"):
        raise TargetError(f"'{word}' is an isotope: models know no masses. Write H.")
    if symbol not in atomic_numbers or symbol == "X":
        how = "Write symbols or atomic numbers with commas, such as H,O or 1,8."
        raise TargetError(f"'{word}' is no chemical symbol.{closest(symbol, atomic_numbers)} {how}")
    return int(atomic_numbers[symbol])


@kind("heads", "Heads")
@dataclass(frozen=True)
class Heads(Named):
    """Exactly these levels of theory of a multi-head model, in this order."""

    role = Role.HEADS
    names: tuple[str, ...]

    def wanted(self) -> Sequence[str]:
        return self.names

    def known(self, model: PruningProblem) -> Sequence[str]:
        return model.architecture.heads
