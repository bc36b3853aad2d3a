"""Types of single flags: whole numbers in a range, switches, output paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token


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


NotNegative = Annotated[int, Parameter(converter=_whole(0))]


Positive = Annotated[int, Parameter(converter=_whole(1))]


Switch = Annotated[bool, Parameter(negative="", show_default=False)]


Patterns = Annotated[list[str], Parameter(negative="")]


Output = Annotated[Path, Parameter(name=["--output", "-o"])]


OptionalOutput = Annotated[Path | None, Parameter(name=["--output", "-o"])]


Dtype = Literal["float32", "float64"]
Device = Annotated[
    str, Parameter(help="where models are evaluated: cpu, cuda, or one of several GPUs, such as cuda:1.")
]
"""`equiprune.cli.opening.check_device` says whether it is here."""
