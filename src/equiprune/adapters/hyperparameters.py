"""Hyperparameters as JSON and back, without a guess: what is missing, unknown or of another type is refused.

Many hyperparameters change the function of a model and no shape of a weight, so that a default in the place of a
missing one, or an unknown one left out, would be another model that loads without a word. A file therefore has every
field, also those with a default. A field that came after the first version of the format says so in its metadata,
``field(metadata=since(2))``; files of versions before may lack it, and its default is what they meant.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from equiprune.errors import CheckpointError, closest

_SINCE = "since_format"

Degree = Annotated[int, Field(ge=0, le=11)]
"""A largest l or m of a model: e3nn and fairchem have rotations up to l = 11."""


def since(version: int) -> dict[str, int]:
    """Metadata of a field that files of earlier versions of the format may lack."""
    return {_SINCE: version}


def hyperparameters_to_json(architecture: Any) -> dict[str, Any]:
    """Every field of an architecture as a JSON value; `hyperparameters_from_json` reads it back."""
    return TypeAdapter(type(architecture)).dump_python(architecture, mode="json")


def hyperparameters_from_json(kind: type, value: Any, version: int) -> Any:
    """The architecture that a JSON value stands for.

    A whole number may stand for a float where that loses nothing; otherwise types are those of the fields.

    Args:
        kind: the frozen dataclass of hyperparameters.
        value: what `hyperparameters_to_json` wrote.
        version: of the native format; only fields that are newer may be missing.

    Raises:
        CheckpointError: a field is missing, unknown or of another type; the message names it, what was given and what
            is allowed.
    """
    reader: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        made = reader.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise CheckpointError(_mistyped(error)) from error
    written = _without_newer(reader.dump_python(made, mode="json"), made, value, version)
    different = list(_differences(value, written))
    if different:
        raise CheckpointError(" ".join(different[:3]))
    return made


def _without_newer(written: Any, made: Any, given: Any, version: int) -> Any:
    """Hyperparameters written again, without fields that neither the file nor its format version has."""
    if isinstance(written, list) and isinstance(given, list) and len(written) == len(given):
        return [_without_newer(*of, version) for of in zip(written, made, given, strict=True)]
    if not is_dataclass(made) or not isinstance(given, dict):
        return written
    newer = {field.name for field in fields(made) if field.metadata.get(_SINCE, 0) > version}
    return {
        name: _without_newer(value, getattr(made, name), given.get(name), version)
        for name, value in written.items()
        if name in given or name not in newer
    }


def _mistyped(error: ValidationError) -> str:
    """The first thing that is not as its type says."""
    first = error.errors(include_url=False)[0]
    name = _dotted(first["loc"])
    if first["type"] == "missing":
        return f"The field {name} is missing, and no value is assumed for it."
    allowed = first["msg"].removeprefix("Input should be ")
    return f"The field {name} is {_shown(first['input'])}; allowed is {allowed}."


def _differences(given: Any, meant: Any, place: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Sentences on every value that changes when it is read and written again."""
    if isinstance(given, dict) and isinstance(meant, dict):
        for key in meant.keys() - given.keys():
            yield f"The field {_dotted((*place, key))} is missing, and no value is assumed for it."
        for key in given.keys() - meant.keys():
            known = f"{closest(key, meant)} Allowed are {', '.join(meant)}."
            yield f"The field {_dotted((*place, key))} is unknown ({_shown(given[key])}).{known}"
        for key in meant.keys() & given.keys():
            yield from _differences(given[key], meant[key], (*place, key))
    elif isinstance(given, list) and isinstance(meant, list) and len(given) == len(meant):
        for i, (one, other) in enumerate(zip(given, meant, strict=True)):
            yield from _differences(one, other, (*place, i))
    elif given != meant:
        yield f"The field {_dotted(place)} is {_shown(given)}, which would be read as {_shown(meant)}."


def _dotted(place: tuple[str | int, ...]) -> str:
    return f"'{'.'.join(map(str, place))}'" if place else "'architecture'"


def _shown(value: Any) -> str:
    """JSON of what was given, cut where it is long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
