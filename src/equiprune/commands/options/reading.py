"""Treatment of names of atoms that are no elements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ase.data import atomic_numbers
from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Switch
from equiprune.errors import TargetError
from equiprune.structures.formats.extxyz_text import Symbols


@Parameter(name="*", group=panel("Names of atoms"))
@dataclass(frozen=True)
class SymbolOptions(Complete):
    """Treatment of names of atoms in text that are no elements; unless something is asked for, they are refused.

    Attributes:
        cut_labels: take the element that a label of a site begins with: O1 is O.
        rename: the element of other names, such as D=H.
    """

    cut_labels: Switch = False
    rename: Annotated[list[str] | None, Parameter(negative="")] = None

    def check(self) -> None:
        for word in self.rename or ():
            name, _, element = word.partition("=")
            if not name or element not in atomic_numbers or element == "X":
                raise TargetError(f"`rename` {word} is not possible: give a name and an element, such as D=H.")

    @property
    def symbols(self) -> Symbols:
        """The same as a value of the API."""
        return Symbols(self.cut_labels, dict(word.split("=", 1) for word in self.rename or ()))


AS_WRITTEN = SymbolOptions()
"""Nothing asked for."""
