"""Keys of a command, read from the fields of its request: those of its options are keys like its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from equiprune.commands.options.values import Complete, hints_of, marks_of, types_of
from equiprune.commands.stages import Mark, Product, Takes

_NO_STAGE = Takes.of()


@dataclass(frozen=True)
class Key:
    """One argument of a command.

    Attributes:
        name: of the field.
        flag: an empty string for what has its place on the command line instead.
        types: every type and word that the field may be.
        takes: which stages it may name.
        marks: what else it is.
    """

    name: str
    flag: str
    types: frozenset[Any]
    takes: Takes
    marks: frozenset[Mark]

    @property
    def model(self) -> bool:
        """True if it names models."""
        return Product.MODEL in self.takes.products

    @property
    def written(self) -> bool:
        """True if it names what the command writes."""
        return Mark.WRITTEN in self.marks

    @property
    def reads(self) -> bool:
        """True if it names what the result depends on: models, files, or stages that give them."""
        return (self.model or Path in self.types) and not self.marks

    def is_word(self, value: str, folder: Path) -> bool:
        """True if a value, in a folder, is neither a file nor a model."""
        return value in self.types or self.takes.other(value, folder)


def keys_of(request: type[Complete]) -> dict[str, Key]:
    """The keys of a request or of options, in the order of the fields."""
    return {key.name: key for key in _keys(request)}


def _keys(made: Any) -> Iterator[Key]:
    hints = hints_of(made)
    for field in fields(made):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Complete):
            yield from (Key(k.name, _flag(k.name), k.types, k.takes, k.marks) for k in _keys(hint))
            continue
        marks = list(marks_of(hint))
        takes = next((mark for mark in marks if isinstance(mark, Takes)), _NO_STAGE)
        flag = _flag(field.name) if field.kw_only else ""
        said = frozenset(mark for mark in marks if isinstance(mark, Mark))
        yield Key(field.name, flag, frozenset(types_of(hint)), takes, said)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
