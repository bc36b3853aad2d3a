"""Wiring of a pipeline: each stage takes from stages before it, by name or by the rule of a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from equiprune.commands.keys import Key, keys_of
from equiprune.commands.request import Request
from equiprune.commands.stages import PARENT, From, Step, Value
from equiprune.errors import RecipeError, closest


@dataclass(frozen=True)
class Stage:
    """A command and its settings by key, as written; keys have underscores."""

    name: str
    command: str
    settings: Mapping[str, tuple[str, ...]]


Requests = Mapping[str, type[Request[Any]]]
"""Commands by name."""


def resolve(stages: Sequence[Stage], requests: Requests) -> list[Step]:
    """Values of every stage, its own words first, then what stages before it gave.

    Raises:
        RecipeError: a key that the command does not have, or a stage that comes later or gives something else.
    """
    steps: list[Step] = []
    names = {stage.name for stage in stages}
    for stage in stages:
        keys, kind = keys_of(requests[stage.command]), requests[stage.command].stage
        values = {name: _given(stage, name, keys, steps, names) for name in stage.settings}
        if kind.output is not None:
            values.setdefault("output", (kind.output,))
        for key in keys.values():
            if key.name not in values and (found := key.takes.rule(values, steps)):
                values[key.name] = found
        steps.append(Step(stage.name, stage.command, kind, values))
    return steps


def _given(stage: Stage, name: str, keys: Mapping[str, Key], before: Sequence[Step], names: Set[str]) -> Value:
    """Values that a stage gives a key."""
    if name == "json":
        raise RecipeError(f"Stage '{stage.name}': leave out 'json'; every stage writes result.json.")
    if name not in keys:
        known = sorted(keys.keys() | {"name"})
        raise RecipeError(
            f"Stage '{stage.name}': {stage.command} has no key '{name}'.{closest(name, known)} "
            f"Keys: {', '.join(known)}."
        )
    key = keys[name]
    others = names - key.types if key.reads else frozenset()
    return tuple(_reference(text, key, stage, before, others) for text in stage.settings[name])


def _reference(text: str, key: Key, stage: Stage, before: Sequence[Step], names: Set[str]) -> str | From:
    """The stage that a word names; a word that names none is a file or an alias, and stays."""
    if text == PARENT and key.model:
        return From(PARENT)
    if text not in names:
        return text
    step = next((step for step in before if step.name == text), None)
    if step is None:
        raise RecipeError(f"Stage '{stage.name}': {key.name} is '{text}', a stage that does not come before it.")
    if step.kind.gives not in key.takes.products:
        gives = step.kind.gives.value if step.kind.gives else "nothing that another stage takes"
        raise RecipeError(
            f"Stage '{stage.name}': {key.name} is '{text}', a stage that gives {gives}. Write './{text}' to mean a "
            "file."
        )
    return From(text)
