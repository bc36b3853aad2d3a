"""A whole pipeline as one file: stages that are commands, with their flags as keys.

    model: 7net-l3i5
    stages:
      - calibrate: {data: crystals.extxyz}
      - prune: {lmax: 2}
      - train: {name: retrain, data: labelled.extxyz, epochs: 3}

Every scalar is text, as on a command line, so that nothing is read as a number, a date or a truth value that was not
meant as one. What a stage does not say it takes from the stages before it (`KINDS`); what it names is a stage before
it, or else a file. Nothing here touches a file but `read_pipeline`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from equiprune.errors import RecipeError, closest

PARENT = "parent"
"""How a stage calls the model of the recipe."""

Texts = tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A command and its settings by key, as written; keys have underscores."""

    name: str
    command: str
    settings: Mapping[str, Texts]


@dataclass(frozen=True)
class Pipeline:
    """The model that everything starts from, and what is done with it, in order."""

    model: str
    stages: tuple[Stage, ...]


def read_pipeline(path: Path, commands: Collection[str]) -> Pipeline:
    """Read a recipe; raises `RecipeError` naming file, line or stage for anything that is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"There is no recipe at '{path}'.") from error
    except IsADirectoryError as error:
        raise RecipeError(
            f"'{path}' is a directory. Give the recipe itself, a YAML file such as recipe.yaml."
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"'{path}' is not a recipe: it is not text.") from error
    try:
        return parse_pipeline(text, commands)
    except RecipeError as error:
        raise RecipeError(f"'{path}': {error}") from error


def parse_pipeline(text: str, commands: Collection[str]) -> Pipeline:
    """Parse a recipe whose stages may be any of these commands.

    Raises:
        RecipeError: not YAML, a key or command that does not exist, a name used twice.

    >>> parse_pipeline("{model: toy, stages: [prune: {edge-lmax: 2}]}", ["prune"]).stages[0]
    Stage(name='prune', command='prune', settings={'edge_lmax': ('2',)})
    """
    value = _yaml(text)
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


class _TextLoader(yaml.SafeLoader):
    """YAML without implicit types, and with no key written twice."""

    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # merge keys only  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := next((key for i, key in enumerate(keys) if key in keys[:i]), None):
            raise yaml.MarkedYAMLError(problem=f"the key '{twice}' is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:
    try:
        return yaml.load(text, _TextLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise RecipeError(f"This is not YAML: {where}: {error.problem or error.context}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"This is not YAML: {' '.join(str(error).split())}.") from error


def _stage(number: int, item: Any, commands: Collection[str]) -> Stage:
    """One item of the list: a command alone, or a command and its settings."""
    if isinstance(item, str):
        item = {item: ""}
    if not isinstance(item, dict) or len(item) != 1:
        raise RecipeError(f"Stage {number} is not one command with its settings, such as '- prune: {{lmax: 2}}'.")
    [(command, given)] = item.items()
    if command not in commands:
        allowed = ", ".join(sorted(commands))
        hint = closest(str(command), commands)
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


def _settings(stage: str, given: Mapping[Any, Any]) -> Iterator[tuple[str, Texts]]:
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


# From settings to values: what a stage takes from those before it.


class Role(Enum):
    """What a stage gives to later ones."""

    MODEL = "a model"
    SCORES = "scores"
    DATA = "labelled structures"


@dataclass(frozen=True)
class From:
    """What an earlier stage gave; from `PARENT`, the model of the recipe."""

    stage: str


Values = Mapping[str, tuple[str | From, ...]]


@dataclass(frozen=True)
class Signature:
    """What a command takes, by key.

    Attributes:
        flags: the flag of each key, an empty string for what has its place on the command line instead.
        paths: keys that name files.
        switches: keys that are true or false.
        lists: keys that may be given more than once.
        words: of keys that name files, the words that mean something else.
    """

    flags: Mapping[str, str]
    paths: frozenset[str] = frozenset()
    switches: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    words: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def reads(self, key: str) -> bool:
        """Whether a key names what the result depends on: models, files, or stages that give them."""
        return key in (MODEL_KEYS | self.paths) - WRITTEN - UNRECORDED


@dataclass(frozen=True)
class Step:
    """A stage that knows where everything comes from."""

    stage: Stage
    values: Values

    @property
    def kind(self) -> Kind:
        return KINDS.get(self.stage.command, Kind())

    @property
    def product(self) -> str | None:
        """What later stages take, below the folder of the stage."""
        return self._named(self.kind.product) if self.kind.gives else None

    @property
    def keeps(self) -> str | None:
        """What an interrupted stage goes on from, below the folder of the stage."""
        return self._named(self.kind.keeps) if self.kind.keeps else None

    def _named(self, pattern: str) -> str:
        return pattern.format(output=self.values["output"][0])


Default = Callable[[Values, Sequence[Step]], tuple[From, ...]]
"""What a stage takes when it does not say, from its values so far and the stages before it."""


@dataclass(frozen=True)
class Kind:
    """What a command is as a stage; any other command is one that takes and gives nothing by itself.

    Attributes:
        output: name of what it writes, unless it says.
        gives: what later stages take.
        defaults: by key, in an order in which each may look at those before it.
        product: where that is.
        keeps: what an interrupted stage goes on from.
    """

    output: str | None = None
    gives: Role | None = None
    defaults: Mapping[str, Default] = field(default_factory=dict)
    product: str = "{output}"
    keeps: str | None = None


def _parent(_: Values, __: Sequence[Step]) -> tuple[From, ...]:
    return (From(PARENT),)


def _models(_: Values, before: Sequence[Step]) -> tuple[From, ...]:
    return (From(PARENT), *(From(s.stage.name) for s in before if s.kind.gives is Role.MODEL))


def _newest_model(values: Values, before: Sequence[Step]) -> tuple[From, ...]:
    return _models(values, before)[-1:]


def _newest_data(_: Values, before: Sequence[Step]) -> tuple[From, ...]:
    return tuple(From(s.stage.name) for s in before if s.kind.gives is Role.DATA)[-1:]


def _scores_of_the_model(values: Values, before: Sequence[Step]) -> tuple[From, ...]:
    if values.keys() & {"data", "criterion", "plan"}:
        return ()
    scores = (s for s in before if s.kind.gives is Role.SCORES and s.values.get("model") == values["model"])
    return tuple(From(s.stage.name) for s in scores)[-1:]


def _pruned_from(values: Values, before: Sequence[Step]) -> tuple[Any, ...]:
    made = {(From(s.stage.name),): s.values["model"] for s in before if s.stage.command == "prune"}
    return made.get(values["model"], ())  # type: ignore[arg-type]


def _trained_from(values: Values, before: Sequence[Step]) -> tuple[Any, ...]:
    starts = {(From(s.stage.name),): s.values["model"] for s in before if s.stage.command == "train"}
    model: Any = values["after"]
    while model in starts:
        model = starts[model]
    return model if model != values["after"] else ()


KINDS: Mapping[str, Kind] = {
    "info": Kind(defaults={"model": _newest_model}),
    "label": Kind("labelled.extxyz", Role.DATA, {"model": _parent}, keeps="{output}.partial"),
    "calibrate": Kind("scores.json", Role.SCORES, {"model": _newest_model}, keeps="{output}.partial"),
    "prune": Kind("model", Role.MODEL, {"model": _newest_model, "scores": _scores_of_the_model}),
    "certify": Kind("certificate.md", None, {"model": _newest_model, "parent": _pruned_from}),
    "train": Kind(
        "run", Role.MODEL, {"model": _newest_model, "data": _newest_data}, product="{output}/model", keeps="{output}"
    ),
    "evaluate": Kind(defaults={"models": _models}),
    "benchmark": Kind(defaults={"models": _models}),
    "stability": Kind(defaults={"after": _newest_model, "before": _trained_from}),
    "export": Kind(defaults={"model": _newest_model}),
}

MODEL_KEYS = frozenset({"model", "models", "parent", "before", "after"})
WRITTEN = frozenset({"output", "plot"})
"""Keys that name what a stage writes, in its own folder."""

UNRECORDED = frozenset({"cache", "workers", "tensorboard", "wandb"})
"""Keys that change nothing of the result, so that a finished or interrupted stage is the same with and without them."""

TAKES: Mapping[str, frozenset[Role]] = {
    "scores": frozenset({Role.SCORES}),
    **dict.fromkeys(("data", "validation", "replay", "references"), frozenset({Role.DATA})),
    **dict.fromkeys(("model", "models", "parent"), frozenset({Role.MODEL})),
    **dict.fromkeys(("before", "after"), frozenset({Role.MODEL, Role.SCORES})),
}
"""What a stage must give to be named at a key; at any other key, no stage can be."""


def resolve(pipeline: Pipeline, signatures: Mapping[str, Signature]) -> tuple[Step, ...]:
    """What every stage is given, its own words first, then what stages before it gave.

    Raises:
        RecipeError: a key that the command does not have, or a stage that comes later or gives something else.
    """
    steps: list[Step] = []
    names = {stage.name for stage in pipeline.stages}
    for stage in pipeline.stages:
        signature, kind = signatures[stage.command], KINDS.get(stage.command, Kind())
        values: dict[str, Any] = dict(_given(stage, signature, steps, names))
        if kind.output is not None and "output" in signature.flags:
            values.setdefault("output", (kind.output,))
        for key, default in kind.defaults.items():
            if key not in values and (found := default(values, steps)):
                values[key] = found
        steps.append(Step(stage, values))
    return tuple(steps)


def _given(
    stage: Stage, signature: Signature, before: Sequence[Step], names: Set[str]
) -> Iterator[tuple[str, tuple[str | From, ...]]]:
    for key, texts in stage.settings.items():
        if key == "json":
            raise RecipeError(f"Stage '{stage.name}': leave out 'json'; every stage writes result.json.")
        if key not in signature.flags:
            keys = sorted(signature.flags.keys() - {"json"} | {"name"})
            hint = closest(key, keys)
            raise RecipeError(
                f"Stage '{stage.name}': {stage.command} has no key '{key}'.{hint} Keys: {', '.join(keys)}."
            )
        others = names - signature.words.get(key, frozenset()) if signature.reads(key) else frozenset()
        yield key, tuple(_reference(text, key, stage, before, others) for text in texts)


def _reference(text: str, key: str, stage: Stage, before: Sequence[Step], names: Collection[str]) -> str | From:
    """The stage that a word names; a word that names none is a file or an alias, and stays."""
    if text == PARENT and key in MODEL_KEYS:
        return From(PARENT)
    if text not in names:
        return text
    step = next((step for step in before if step.stage.name == text), None)
    if step is None:
        raise RecipeError(f"Stage '{stage.name}': {key} is '{text}', a stage that does not come before it.")
    if step.kind.gives not in TAKES.get(key, frozenset()):
        gives = step.kind.gives.value if step.kind.gives else "nothing that another stage takes"
        raise RecipeError(
            f"Stage '{stage.name}': {key} is '{text}', a stage that gives {gives}. Write './{text}' to mean a file."
        )
    return From(text)
