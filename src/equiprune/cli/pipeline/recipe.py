"""A whole pipeline as one file: stages that are commands, with their flags as keys.

    model: 7net-l3i5
    stages:
      - calibrate: {data: crystals.extxyz}
      - prune: {lmax: 2}
      - train: {name: retrain, data: labelled.extxyz, epochs: 3}

Every scalar is text, as on a command line, so that nothing is read as a number, a date or a truth value that was not
meant as one. Nothing here touches a file but `read_pipeline`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equiprune.commands.stages import PARENT
from equiprune.commands.wiring import Stage
from equiprune.errors import RecipeError, closest
from equiprune.files.yaml_text import parse_yaml


@dataclass(frozen=True)
class Pipeline:
    """The model that everything starts from, and what is done with it, in order."""

    model: str
    stages: tuple[Stage, ...]


def read_pipeline(path: Path, commands: Collection[str]) -> Pipeline:
    """Read a recipe; raises `RecipeError` naming file, line or stage for anything that is none."""
    try:
        return parse_pipeline(path.read_text(encoding="utf-8"), commands)
    except FileNotFoundError as error:
        raise RecipeError(f"There is no recipe at '{path}'.") from error
    except IsADirectoryError as error:
        raise RecipeError(
            f"'{path}' is a directory. Give the recipe itself, a YAML file such as recipe.yaml."
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"'{path}' is not a recipe: it is not text.") from error
    except RecipeError as error:
        raise RecipeError(f"'{path}': {error}") from error


def parse_pipeline(text: str, commands: Collection[str]) -> Pipeline:
    """Parse a recipe whose stages may be any of these commands.

    Raises:
        RecipeError: not YAML, a key or command that does not exist, a name used twice.

    >>> parse_pipeline("{model: toy, stages: [prune: {edge-lmax: 2}]}", ["prune"]).stages[0]
    Stage(name='prune', command='prune', settings={'edge_lmax': ('2',)})
    """
    value = parse_yaml(text)
    if not isinstance(value, dict) or value.keys() != {"model", "stages"}:
        given = ", ".join(map(str, value)) if isinstance(value, dict) else "something else" if value else "nothing"
        raise RecipeError(f"A recipe has the two keys 'model' and 'stages'; this file has {given}.")
    if not isinstance(value["model"], str) or not value["model"]:
        raise RecipeError("'model' is an alias such as 7net-l3i5, or the path of a model.")
    if not isinstance(value["stages"], list) or not value["stages"]:
        raise RecipeError("'stages' is a list of commands, such as '- prune: {lmax: 2}'.")
    stages = tuple(_stage(i, item, commands) for i, item in enumerate(value["stages"], 1))
    names = [stage.name for stage in stages]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RecipeError(f"Two stages are called '{twice}'. Give each a name of its own: 'name: another'.")
    return Pipeline(value["model"], stages)


def _stage(number: int, item: Any, commands: Collection[str]) -> Stage:
    """One item of the list: a command alone, or a command and its settings."""
    if isinstance(item, str):
        item = {item: ""}
    if not isinstance(item, dict) or len(item) != 1:
        raise RecipeError(f"Stage {number} is not one command with its settings, such as '- prune: {{lmax: 2}}'.")
    [(command, given)] = item.items()
    if command not in commands:
        hint, allowed = closest(str(command), commands), ", ".join(sorted(commands))
        raise RecipeError(f"Stage {number}: there is no stage '{command}'.{hint} Stages are {allowed}.")
    if not isinstance(given or {}, dict):
        raise RecipeError(f"Stage {number} ({command}): settings are keys and values, such as {{lmax: 2}}.")
    settings = dict(_settings(f"Stage {number} ({command})", given or {}))
    [name] = settings.pop("name", (command,))
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII) or name == PARENT:
        raise RecipeError(
            f"Stage {number} ({command}): '{name}' cannot be its name. Use letters, digits, - and _; not '{PARENT}'."
        )
    return Stage(name, command, settings)


def _settings(stage: str, given: Mapping[Any, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Keys with underscores, and values as texts."""
    seen: set[str] = set()
    for key, value in given.items():
        name = str(key).replace("-", "_")
        texts = tuple(value) if isinstance(value, list) else (value,)
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise RecipeError(f"{stage}: '{key}' needs a value: a word, a number, or a list of them.")
        if name in seen or (name == "name" and len(texts) > 1):
            raise RecipeError(f"{stage}: '{key}' is there twice.")
        seen.add(name)
        yield name, texts
