"""Arguments of a command, read from the fields of the value that it makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from inspect import Parameter as Argument
from inspect import Signature
from typing import Any, cast

from equiprune.commands.options.values import Complete, hints_of


def described(run: Callable[..., int], made: type[Complete], switches: Sequence[Argument]) -> None:
    """Give a function the docstring and the signature of a value's fields, with switches before the last of them.

    Args:
        run: takes any arguments; changed.
        made: its fields are the arguments: those that are not for keywords only have their place.
        switches: arguments of the command alone.
    """
    arguments = list(_arguments(made))
    signature = Signature([*arguments[:-1], *switches, arguments[-1]], return_annotation=int)
    run.__doc__ = cast(str, inspect.getdoc(made)).replace("Attributes:", "Args:")
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {argument.name: argument.annotation for argument in signature.parameters.values()}


def switch(name: str, annotation: Any) -> Argument:
    """An argument that is off unless it is given."""
    return Argument(name, Argument.KEYWORD_ONLY, default=False, annotation=annotation)


def _arguments(made: type[Complete]) -> Iterator[Argument]:
    hints, defaults = hints_of(made), inspect.signature(made).parameters
    for field in fields(cast(Any, made)):
        kind = Argument.KEYWORD_ONLY if field.kw_only else Argument.POSITIONAL_ONLY
        yield Argument(field.name, kind, default=defaults[field.name].default, annotation=hints[field.name])
