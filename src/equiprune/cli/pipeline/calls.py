"""From the stages of a recipe to command lines, and how far each has got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from equiprune.adapters import aliases
from equiprune.cli.pipeline.recipe import Pipeline, read_pipeline
from equiprune.cli.pipeline.stage_folder import StageFolder, State, Status
from equiprune.cli.words import line_of
from equiprune.commands.keys import Key, keys_of
from equiprune.commands.opening import is_missing, model_at, sha256_at
from equiprune.commands.stages import PARENT, RESULT, From, Mark, Step
from equiprune.commands.wiring import Requests, resolve
from equiprune.errors import RecipeError, closest
from equiprune.files.code import code_sha256


@dataclass(frozen=True)
class Call:
    """A stage as a command line.

    Attributes:
        step: the stage, and where everything comes from.
        keys: what its command takes.
        folder: where everything goes.
        base: the folder of the recipe.
        products: what each stage gives, and the model that everything starts from.
    """

    step: Step
    keys: Mapping[str, Key]
    folder: StageFolder
    base: Path
    products: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.step.name

    @cached_property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Words of each key on the command line."""
        return {name: tuple(self._text(self.keys[name], v) for v in vs) for name, vs in self.step.values.items()}

    @cached_property
    def line(self) -> tuple[str, ...]:
        """Words after ``equiprune``."""
        return (self.step.command, *line_of(self.keys, self.texts), "--json")

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """By key, the files and aliases that it reads."""
        return {name: texts for name, texts in self.texts.items() if self._reads(self.keys[name])}

    @property
    def outputs(self) -> list[str]:
        """Files that must stay for the stage to count as done, below its folder."""
        written = {Path(text).name for name, texts in self.texts.items() if self.keys[name].written for text in texts}
        product = {self.step.product} if self.step.product else set()
        return [RESULT, *sorted((written - {self.step.keeps} | product) - {RESULT})]

    def described(self) -> dict[str, Any]:
        """Description that a finished stage is compared by: settings, sha256 of all that it reads, the code."""
        recorded = [n for n in self.texts if n not in self.inputs and Mark.UNRECORDED not in self.keys[n].marks]
        settings = {name: list(self.step.values[name]) for name in recorded}
        prints = {name: list(map(sha256_at, texts)) for name, texts in self.inputs.items()}
        what = {"command": self.step.command, "settings": settings, "inputs": prints}
        return what | {"equiprune": version("equiprune"), "code": code_sha256()}

    def check_inputs(self, stages: Sequence[str]) -> None:
        """Refuse files that are not there, unless a stage will give them."""
        for name, texts in self.inputs.items():
            for text, given in zip(texts, self.step.values[name], strict=True):
                if isinstance(given, str) and is_missing(text):
                    hint = closest(given, [*stages, *aliases()] if self.keys[name].model else stages)
                    raise RecipeError(f"{self.step.where}: {name} is '{given}', and there is no '{text}'.{hint}")

    def _reads(self, key: Key) -> bool:
        values = self.step.values[key.name]
        return key.reads and not all(isinstance(value, str) and key.is_word(value, self.base) for value in values)

    def _text(self, key: Key, value: str | From) -> str:
        if isinstance(value, From):
            return self.products[value.stage]
        if key.written:
            return str(self.folder.path / self._plain_name(key, value))
        if key.is_word(value, self.base):
            return value
        if key.model:
            return model_at(value, self.base)
        return str(self.base / Path(value).expanduser()) if Path in key.types else value

    def _plain_name(self, key: Key, text: str) -> str:
        if Path(text).name != text or text.startswith(".") or text in ("stage.json", RESULT):
            raise RecipeError(
                f"Stage '{self.name}': {key.name} is '{text}', but a stage writes into a folder of its own. Give a "
                "name alone, such as small.pth."
            )
        return text


def planned(recipe: Path, folder: Path, requests: Requests) -> list[Call]:
    """The stages of a recipe; raises `RecipeError` for files, keys and stages that are not there."""
    return calls_of(read_pipeline(recipe, requests), recipe.absolute().parent, folder.absolute(), requests)


def calls_of(pipeline: Pipeline, base: Path, folder: Path, requests: Requests) -> list[Call]:
    """The stages of a recipe that is read, with what a recipe in the folder ``base`` means by its paths."""
    model = model_at(pipeline.model, base)
    if is_missing(model):
        hint = closest(pipeline.model, aliases())
        raise RecipeError(f"model is '{pipeline.model}', neither a known model nor a file '{model}'.{hint}")
    steps = resolve(pipeline.stages, requests)
    products = {PARENT: model} | {s.name: str(folder / s.name / s.product) for s in steps if s.product}
    keys = {command: keys_of(request) for command, request in requests.items()}
    calls = [Call(s, keys[s.command], StageFolder(folder / s.name), base, products) for s in steps]
    for call in calls:
        call.check_inputs([step.name for step in steps])
    return calls


def foreseen(calls: Sequence[Call]) -> list[tuple[Call, State]]:
    """States of the stages that a run would find; what a stage will give is not known before it has run."""
    found: list[tuple[Call, State]] = []
    for call in calls:
        runs = [before.name for before, state in found if state.status is not Status.DONE]
        waits_for = [name for name in runs if name in call.step.upstream]
        if not call.folder.path.exists():
            found.append((call, State(Status.NEW)))
        elif waits_for:
            found.append((call, call.folder.changed(f"unless {waits_for[0]} gives the same as before")))
        else:
            found.append((call, call.folder.state(call.described(), call.step.keeps)))
    return found
