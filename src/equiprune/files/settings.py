"""Settings as data: what was chosen, written so that it outlives the code that it was chosen in.

A run, a file of labels and the history of a model record what they were made with, and what was interrupted goes on
only by the same settings. ``{"kind": "huber", "delta": 0.01}`` is ``Huber(delta=0.01)``: a frozen dataclass under the
name that is registered beside it. The class may be renamed; a kind may be, too, where its older names stay. A field
that a record lacks has the default of its class, since that is what there was before the field. Records are therefore
compared as values: what is stored is read, and written again as this version would.

Until version 2 records held ``repr`` of the class instead of its fields; `from_text` reads those.

>>> @kind("tapered", "Tapered")
... @dataclass(frozen=True)
... class Tapered:
...     end: float = 0.01
>>> to_json(Tapered(0.5))
{'kind': 'tapered', 'end': 0.5}
>>> from_json({"kind": "tapered"}), current({"kind": "Tapered"}), from_text("Tapered(end=1.0)")
(Tapered(end=0.01), {'kind': 'tapered', 'end': 0.01}, Tapered(end=1.0))
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from types import MappingProxyType
from typing import Any, TypeVar

from equiprune.errors import closest

VERSION = 2
"""Version of records: 1 held text where 2 holds fields."""

UNRECORDED = MappingProxyType({"recorded": False})
"""Metadata of a field that changes nothing about a result, such as how often a state is saved."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Kind:
    name: str
    made: type
    write: Callable[[Any], Mapping[str, Any]]
    read: Callable[[Mapping[str, Any]], Any]


_NAMED: dict[str, _Kind] = {}
_OF_CLASS: dict[type, _Kind] = {}


def kind(
    name: str,
    *formerly: str,
    write: Callable[[Any], Mapping[str, Any]] | None = None,
    read: Callable[[Mapping[str, Any]], Any] | None = None,
) -> Callable[[type[T]], type[T]]:
    """Register a frozen dataclass under the name that records call it.

    Args:
        name: in records; it stays when the class is renamed.
        formerly: older names that records may hold, and names of the class before version 2.
        write: the fields as JSON, where they are not plain values, lists, mappings or registered classes.
        read: the value that such fields stand for.
    """

    def register(made: type[T]) -> type[T]:
        entry = _Kind(name, made, write or _fields, read or (lambda given: _made(name, made, given)))
        for each in (name, *formerly):
            if each in _NAMED:
                raise ValueError(f"Records call {_NAMED[each].made.__name__} '{each}' already. Choose another name.")
            _NAMED[each] = entry
        _OF_CLASS[made] = entry
        return made

    return register


def to_json(value: Any) -> Any:
    """A JSON value; `from_json` reads it back. Raises `ValueError` for a class without a kind."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    entry = _OF_CLASS.get(type(value))
    if entry is None:
        raise ValueError(
            f"Records have no name for {type(value).__name__}. Give it one: "
            "@equiprune.files.settings.kind('...') above its frozen dataclass."
        )
    return {"kind": entry.name, **entry.write(value)}


def from_json(value: Any) -> Any:
    """The value that was recorded; lists are tuples. Raises `ValueError` for what this version does not know."""
    if isinstance(value, Mapping):
        if "kind" not in value:
            return {key: from_json(item) for key, item in value.items()}
        return _known(value["kind"]).read({key: item for key, item in value.items() if key != "kind"})
    return tuple(map(from_json, value)) if isinstance(value, list | tuple) else value


def current(value: Any) -> Any:
    """A recorded JSON value as this version would write it: older names are new ones, and every field is there."""
    return to_json(from_json(value))


def from_text(text: str) -> Any:
    """The value that a record before version 2 wrote as ``repr`` of a frozen dataclass, of its fields or of None.

    Nothing is run: only names of registered classes, their fields, and numbers, text, None, tuples are understood.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"'{text}' is no recorded setting.") from error
    return _value_of(tree)


def _value_of(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[], keywords=given):
            return _made(name, _known(name).made, {str(one.arg): _value_of(one.value) for one in given})
        case ast.Tuple(elts=items):
            return tuple(map(_value_of, items))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
    raise ValueError(f"'{ast.unparse(node)}' is no recorded setting.")


def _known(name: Any) -> _Kind:
    if name not in _NAMED:
        import_module("equiprune.api")  # where a record is read, not all that may be recorded has been imported
    if not isinstance(name, str) or name not in _NAMED:
        raise ValueError(f"'{name}' is of no kind that this version knows.{closest(str(name), _NAMED)}")
    return _NAMED[name]


def _fields(value: Any) -> dict[str, Any]:
    recorded = [field.name for field in fields(value) if field.metadata.get("recorded", True)]
    return {name: to_json(getattr(value, name)) for name in recorded}


def _made(name: str, made: Any, given: Mapping[str, Any]) -> Any:
    if unknown := sorted(given.keys() - {field.name for field in fields(made)}):
        raise ValueError(f"A recorded '{name}' has no {unknown[0]} in this version.")
    try:
        return made(**{key: from_json(value) for key, value in given.items()})
    except TypeError as error:
        raise ValueError(f"A recorded '{name}' is incomplete ({error}).") from error


def first_difference(before: Any, after: Any, name: str = "") -> str:
    """The dotted name of the first thing that differs.

    >>> first_difference({"settings": {"epochs": ["2"]}}, {"settings": {"epochs": ["3"]}})
    'settings.epochs'
    """
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return name
    different = next(key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key))
    return first_difference(before.get(different), after.get(different), f"{name}.{different}".removeprefix("."))
