"""Words of a command line: the request that they make, those that make it, and messages in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from cyclopts import App

from equiprune.errors import RecipeError, TargetError

if TYPE_CHECKING:
    from equiprune.commands.keys import Key
    from equiprune.commands.request import Request

WORDS: ContextVar[Sequence[str]] = ContextVar("words", default=())
"""The command line that is being run, without the name of the program."""

_OF_THE_COMMAND_LINE = {"json", "dry_run"}
"""Flags that a request does not have."""


OF_ELEMENTS = ("--elements", "--substitute-elements")
"""Flags that name elements."""


def with_elements_joined(words: Sequence[str]) -> list[str]:
    """The same words with elements that follow each other as one word: ``--elements H O`` names two.

    What follows is an element where it reads as one, so that a model or a file may follow too.

    >>> with_elements_joined(["prune", "--elements", "H", "O", "7net-0", "-o", "small.pth"])
    ['prune', '--elements', 'H,O', '7net-0', '-o', 'small.pth']
    """
    joined: list[str] = []
    naming = False
    for word in words:
        if naming and _names_elements(word) and joined[-1] not in OF_ELEMENTS:
            joined[-1] += f",{word}"
            continue
        naming = word.split("=")[0] in OF_ELEMENTS or (naming and joined[-1] in OF_ELEMENTS)
        joined.append(word)
    return joined


def _names_elements(word: str) -> bool:
    from equiprune.pruning.targets.named import Elements  # slow to import, and only needed for such a flag

    try:
        return bool(Elements.parse(word).numbers)
    except TargetError:
        return False


def request_of(app: App, words: Sequence[str], request: type[Request[Any]]) -> Request[Any]:
    """The request that a command line makes; raises `CycloptsError` or `EquipruneError` where it makes none."""
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return request(**{name: value for name, value in bound.arguments.items() if name not in _OF_THE_COMMAND_LINE})


def flags_of(app: App, name: str) -> dict[str, str]:
    """The arguments of a command by their names in Python: its flag, or its place in capitals."""
    arguments = [a for a in app[name].assemble_argument_collection() if a.parse and a.names[0] != "*"]
    names = [a.names[0] for a in arguments]
    return {name.lstrip("-").lower().replace("-", "_"): name for name in names}


def takes_what_follows(app: App, words: Sequence[str]) -> str | None:
    """The last flag of a command line that takes every word up to the next flag; None where it has none."""
    arguments = app[words[0]].assemble_argument_collection()
    flags = {name for a in arguments if a.field_info.is_keyword and a.parameter.consume_multiple for name in a.names}
    return next((flag for word in reversed(words) if (flag := word.partition("=")[0]) in flags), None)


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
