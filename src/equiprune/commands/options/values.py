"""Types of single options: whole numbers in a range, switches, models, data, output paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cyclopts import Parameter, Token

from equiprune.commands.stages import Mark, Product, Takes, every_model, newest_model
from equiprune.errors import TargetError


def _whole(smallest: int | None) -> Callable[[Any, tuple[Token, ...]], int]:
    """A reader of whole numbers; cyclopts itself would round 1.5."""

    def read(_: Any, tokens: tuple[Token, ...]) -> int:
        text = tokens[0].value
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"'{text}' is not a whole number.") from None
        if smallest is not None and number < smallest:
            raise ValueError(f"{number} is not possible, give {smallest} or more.")
        return number

    return read


Whole = Annotated[int, Parameter(converter=_whole(None))]
"""A whole number whose range depends on the model."""


@dataclass(frozen=True)
class AtLeast:
    """Mark of a number that is not smaller."""

    least: int


NotNegative = Annotated[int, Parameter(converter=_whole(0)), AtLeast(0)]


Positive = Annotated[int, Parameter(converter=_whole(1)), AtLeast(1)]


Switch = Annotated[bool, Parameter(negative="", show_default=False)]


def _wholes(_: Any, tokens: tuple[Token, ...]) -> list[int]:
    """The same for several numbers, one after another."""
    return [_whole(1)(_, (token,)) for token in tokens]


Numbers = Annotated[list[int], Parameter(negative="", consume_multiple=1, converter=_wholes)]
"""Several whole numbers above zero."""


Patterns = Annotated[list[str], Parameter(negative="")]


Model = Annotated[str, Takes.of(Product.MODEL, rule=newest_model)]
"""An alias, an upstream checkpoint, or a directory that equiprune wrote; in a pipeline the newest model there is."""


Models = Annotated[list[str], Takes.of(Product.MODEL, rule=every_model)]
"""Several of them; in a pipeline all there are."""


Data = Annotated[Path, Takes.of(Product.DATA)]
"""A file or folder of labelled structures."""


Bare = Annotated[Path, Takes.of(Product.DATA, Product.STRUCTURES)]
"""A file or folder of structures, with labels or without."""


Output = Annotated[Path, Parameter(name=["--output", "-o"]), Mark.WRITTEN]


OptionalOutput = Annotated[Path | None, Parameter(name=["--output", "-o"]), Mark.WRITTEN]


Dtype = Literal["float32", "float64"]
EvaluationEngineName = Literal["equiprune", "upstream"]
"""Engines of `equiprune.evaluation.engines` that evaluate every model."""


EvaluationEngines = Annotated[list[str], Parameter(negative="", consume_multiple=1)]
"""Several, also those of some architectures: `equiprune.evaluation.engines.engine_named` knows them."""


Precisions = Annotated[list[str], Parameter(negative="", consume_multiple=1)]
"""Several of `equiprune.evaluation.precisions.PRECISIONS`."""


Device = Annotated[
    str, Parameter(help="where models are evaluated: cpu, cuda, or one of several GPUs, such as cuda:1.")
]
"""`equiprune.commands.opening.check_device` says whether it is here."""


def types_of(hint: Any) -> set[Any]:
    """Every type and word that a hint is made of: of ``list[Path] | Literal["keep"]``, list, Path and "keep"."""
    return {get_origin(hint) or hint}.union(*(types_of(part) for part in get_args(hint)))


def marks_of(hint: Any) -> Iterator[Any]:
    """Everything that a hint is annotated with, also within a union."""
    if get_origin(hint) is Annotated:
        yield from hint.__metadata__
    for part in get_args(hint)[: 1 if get_origin(hint) is Annotated else None]:
        yield from marks_of(part)


def hints_of(made: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, with what they are annotated with."""
    hints = get_type_hints(made, include_extras=True)
    return {field.name: hints[field.name] for field in fields(made)}


class Complete:
    """Base of frozen dataclasses that can be used once they are constructed: a `TargetError` says what cannot be.

    Text is taken where a path is meant, and a path where the name of a model is.
    """

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self)).items():
            given = getattr(self, name)
            if (settled := _settled(name, given, hint)) is not given:
                object.__setattr__(self, name, settled)
        self.check()

    def check(self) -> None:
        """Raise `EquipruneError` for what cannot be done; opens nothing."""


def _settled(name: str, given: Any, hint: Any) -> Any:
    """A value in the type of its field."""
    types = types_of(hint)
    words = [word for word in types if isinstance(word, str)]
    if isinstance(given, list) and types & {str, Path}:
        return [_settled(name, each, Path if Path in types else str) for each in given]
    if isinstance(given, str) and Path in types:
        return given if given in words else Path(given)
    if isinstance(given, Path) and Path not in types:
        return str(given)
    if isinstance(given, str) and words and given not in words:
        raise TargetError(f"`{name}` '{given}' is not possible: give {', '.join(sorted(words))}.")
    least = next((mark.least for mark in marks_of(hint) if isinstance(mark, AtLeast)), None)
    if least is not None and given is not None and given < least:
        raise TargetError(f"`{name}` {given} is not possible: give {least} or more.")
    return given
