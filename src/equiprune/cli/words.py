"""From words to a request, and from its result to what is shown: every command of the command line is made here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter as Argument
from inspect import Signature
from typing import Annotated, Any, cast

from cyclopts import App, Parameter

from equiprune.cli.display import progresses, show_json
from equiprune.commands.keys import Key
from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Switch, hints_of
from equiprune.commands.request import Request
from equiprune.errors import RecipeError

JSON = Annotated[Switch, Parameter(group=panel("Common"), help="print one JSON document on stdout instead of text.")]


def command(request: type[Request[Any]], shown: Callable[[Any], None]) -> Callable[..., int]:
    """A function that takes what a request takes, and ``json``; runs it, shows the result and gives the exit code.

    Args:
        request: its fields are the arguments: those that are not for keywords only have their place.
        shown: writes the result for people.
    """

    def run(*given: Any, json: bool = False, **named: Any) -> int:
        result = request(*given, **named).run(progresses)
        if result is None:  # another process has it
            return 0
        show_json(result.to_json()) if json else shown(result)
        return 0 if getattr(result, "passed", True) else 1

    run.__name__ = request.command()
    run.__doc__ = cast(str, inspect.getdoc(request)).replace("Attributes:", "Args:")
    arguments = list(_arguments(request))
    json = Argument("json", Argument.KEYWORD_ONLY, default=False, annotation=JSON)
    signature = Signature([*arguments[:-1], json, arguments[-1]], return_annotation=int)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {a.name: a.annotation for a in signature.parameters.values()}
    return run


def _arguments(request: type[Request[Any]]) -> Iterator[Argument]:
    defaults = inspect.signature(request).parameters
    for field in fields(cast(Any, request)):
        kind = Argument.KEYWORD_ONLY if field.kw_only else Argument.POSITIONAL_ONLY
        hint = hints_of(request)[field.name]
        yield Argument(field.name, kind, default=defaults[field.name].default, annotation=hint)


def request_of(app: App, words: Sequence[str], request: type[Request[Any]]) -> Request[Any]:
    """The request that a command line makes; raises `CycloptsError` or `EquipruneError` where it makes none."""
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return request(**{name: value for name, value in bound.arguments.items() if name != "json"})


def flags_of(app: App, name: str) -> dict[str, str]:
    """The arguments of a command by their names in Python: its flag, or its place in capitals."""
    arguments = [a for a in app[name].assemble_argument_collection() if a.parse and a.names[0] != "*"]
    names = [a.names[0] for a in arguments]
    return {name.lstrip("-").lower().replace("-", "_"): name for name in names}


def line_of(keys: Mapping[str, Key], given: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Words of a command line that give a command these texts: what has its place first, then flags as they come.

    Raises:
        RecipeError: a switch is neither true nor false.
    """
    yield from (text for key in keys.values() if not key.flag for text in given.get(key.name, ()))
    for key, texts in ((keys[name], texts) for name, texts in given.items()):
        if key.flag and bool in key.types:
            yield from [key.flag] if _switched_on(key, texts) else []
        elif key.flag:
            for text in texts if list in key.types else [",".join(texts)]:
                yield from (key.flag, text) if not text.startswith("-") else (f"{key.flag}={text}",)


def _switched_on(key: Key, texts: Sequence[str]) -> bool:
    truth = {"true": True, "false": False}
    if len(texts) != 1 or texts[0].lower() not in truth:
        raise RecipeError(f"{key.name} is true or false, not '{', '.join(texts)}'.")
    return truth[texts[0].lower()]


def in_flags(text: str, flags: Mapping[str, str]) -> str:
    """A message of the library, which calls arguments by their names, in words of the command line.

    >>> in_flags("`floor` 2.0 is not possible. See `plan`.", {"floor": "--floor"})
    '--floor 2.0 is not possible. See `plan`.'
    """
    return re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[0]), text)
