"""From the stages of a recipe to command lines, checked by the parser of the command line itself.

A key is a flag with underscores, or what has its place on the command line by its name. Nothing here knows which flags
there are, so that every flag of every command works in a recipe; what a command would refuse it is asked (`CHECKS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_origin

from cyclopts import App, CycloptsError

import equiprune as ep
from equiprune.adapters import aliases
from equiprune.cli.pipeline.recipe import (
    MODEL_KEYS,
    PARENT,
    UNRECORDED,
    WRITTEN,
    From,
    Pipeline,
    Signature,
    Step,
    read_pipeline,
    resolve,
)
from equiprune.cli.pipeline.stage_folder import StageFolder
from equiprune.cli.results import SHOWN
from equiprune.errors import EquipruneError, RecipeError, closest
from equiprune.labelling.teachers import names_calculator
from equiprune.structures.reading import fingerprint

_NO_STAGES = frozenset({"run", "demo"})


@dataclass(frozen=True)
class Call:
    """A stage as a command line.

    Attributes:
        step: the stage and where everything comes from.
        folder: where everything goes.
        words: what follows ``equiprune``.
        inputs: by key, the files and aliases that it reads.
        given: those of them that no stage gives, with how the recipe calls them.
    """

    step: Step
    folder: StageFolder
    words: tuple[str, ...]
    inputs: Mapping[str, tuple[str, ...]]
    given: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.step.stage.name

    @property
    def upstream(self) -> frozenset[str]:
        """Stages whose products it reads."""
        taken = (value for values in self.step.values.values() for value in values if isinstance(value, From))
        return frozenset(value.stage for value in taken) - {PARENT}

    @property
    def outputs(self) -> list[str]:
        """What must stay for the stage to count as done, below its folder."""
        written = {str(text) for key in WRITTEN for text in self.step.values.get(key, ())} - {self.step.keeps}
        product = {self.step.product} if self.step.product else set()
        return ["result.json", *sorted(written | product)]

    def described(self) -> dict[str, Any]:
        """What a finished stage is compared by: settings, sha256 of everything that it reads, version."""
        settings = {k: list(v) for k, v in self.step.values.items() if k not in self.inputs.keys() | UNRECORDED}
        prints = {key: [_fingerprint(word) for word in words] for key, words in self.inputs.items()}
        command = self.step.stage.command
        return {"command": command, "settings": settings, "inputs": prints, "equiprune": version("equiprune")}


def planned(app: App, recipe: Path, folder: Path) -> list[Call]:
    """The command lines of a recipe, every one of them parsed; `check` asks their commands.

    Raises:
        RecipeError: anything in the recipe that cannot be; stage and key are named.
    """
    commands = {name for name in app if not name.startswith("-")} - _NO_STAGES
    pipeline = read_pipeline(recipe, commands)
    signatures = {stage.command: signature_of(app, stage.command) for stage in pipeline.stages}
    steps = resolve(pipeline, signatures)
    places = _Places.of(pipeline, steps, recipe.absolute().parent, folder.absolute())
    _check_model(pipeline.model, places.products[PARENT])
    calls = [_call(step, signatures[step.stage.command], places) for step in steps]
    for call in calls:
        _check_inputs(call, [step.stage.name for step in steps])
    return calls


def check(app: App, call: Call) -> None:
    """Refuse what the command of a stage would refuse at once, whatever the stages before it give.

    Raises:
        RecipeError: an argument that cannot be, or not on this machine; the stage is named.
    """
    request = {made.__name__.lower(): made for made in SHOWN}[call.step.stage.command]
    with _naming(call):
        _, bound, _ = app.parse_args(call.words, exit_on_error=False, print_error=False)
        request(**{name: value for name, value in bound.arguments.items() if name != "json"})


def signature_of(app: App, command: str) -> Signature:
    """What a command takes, read from its parser."""
    arguments = [a for a in app[command].assemble_argument_collection() if a.parse and a.names[0] != "*"]
    named = {a.names[0].lstrip("-").lower().replace("-", "_"): a for a in arguments}
    paths = {key: _types(a.hint) for key, a in named.items() if Path in _types(a.hint)}
    return Signature(
        {key: a.names[0] if a.names[0].startswith("-") else "" for key, a in named.items()},
        paths=frozenset(paths),
        switches=frozenset(key for key, a in named.items() if bool in _types(a.hint)),
        lists=frozenset(key for key, a in named.items() if list in _types(a.hint)),
        words={key: frozenset(part for part in types if isinstance(part, str)) for key, types in paths.items()},
    )


def _types(hint: Any) -> set[Any]:
    """Every type and word that a hint is made of: of ``list[Path] | Literal["keep"]``, list, Path and "keep"."""
    return {get_origin(hint) or hint}.union(*(_types(part) for part in get_args(hint)))


@dataclass(frozen=True)
class _Places:
    """Where words of a recipe lead to."""

    base: Path
    folder: Path
    products: Mapping[str, str]

    @classmethod
    def of(cls, pipeline: Pipeline, steps: Sequence[Step], base: Path, folder: Path) -> _Places:
        products = {s.stage.name: str(folder / s.stage.name / s.product) for s in steps if s.product}
        return cls(base, folder, {**products, PARENT: _model(pipeline.model, base)})

    def word(self, key: str, value: str | From, step: Step, signature: Signature) -> str:
        if isinstance(value, From):
            return self.products[value.stage]
        if key in WRITTEN:
            return str(self.folder / step.stage.name / _plain_name(value, key, step))
        if self.stays(key, value, step, signature):
            return value
        if key in MODEL_KEYS:
            return _model(value, self.base)
        return str(self.base / Path(value).expanduser()) if key in signature.paths else value

    def stays(self, key: str, value: str | From, step: Step, signature: Signature) -> bool:
        """Whether a value is neither a file nor a model: a word of the flag, or a calculator that labels."""
        if isinstance(value, From):
            return False
        labels = (step.stage.command, key) == ("label", "model")
        return value in signature.words.get(key, ()) or (labels and names_calculator(value, self.base))


def _model(text: str, base: Path) -> str:
    """A model as the command line opens it: a directory first, then an alias, then a file."""
    path = base / Path(text).expanduser()
    return text if not path.is_dir() and text.lower() in aliases() else str(path)


def _plain_name(text: str, key: str, step: Step) -> str:
    if Path(text).name != text or text.startswith(".") or text in ("stage.json", "result.json"):
        raise RecipeError(
            f"Stage '{step.stage.name}': {key} is '{text}', but a stage writes into a folder of its own. Give a name "
            "alone, such as small.pth."
        )
    return text


def _call(step: Step, signature: Signature, places: _Places) -> Call:
    words = {k: tuple(places.word(k, v, step, signature) for v in values) for k, values in step.values.items()}
    inputs = {
        key: words[key]
        for key, values in step.values.items()
        if signature.reads(key) and not all(places.stays(key, value, step, signature) for value in values)
    }
    given = {
        word: value
        for key in inputs
        for word, value in zip(words[key], step.values[key], strict=True)
        if isinstance(value, str)
    }
    line = (step.stage.command, *_line(step, signature, words), "--json")
    return Call(step, StageFolder(places.folder / step.stage.name), line, inputs, given)


def _line(step: Step, signature: Signature, words: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What has its place first, then flags in the order of the recipe."""
    yield from (word for key, flag in signature.flags.items() if not flag for word in words.get(key, ()))
    for key, texts in words.items():
        flag = signature.flags[key]
        if flag and key in signature.switches:
            yield from [flag] if _switched_on(step, key, texts) else []
        elif flag:
            for text in texts if key in signature.lists else [",".join(texts)]:
                yield from (flag, text) if not text.startswith("-") else (f"{flag}={text}",)


def _switched_on(step: Step, key: str, texts: Sequence[str]) -> bool:
    truth = {"true": True, "false": False}
    if len(texts) != 1 or texts[0].lower() not in truth:
        raise RecipeError(f"Stage '{step.stage.name}': {key} is true or false, not '{', '.join(texts)}'.")
    return truth[texts[0].lower()]


@contextmanager
def _naming(call: Call) -> Iterator[None]:
    """Say of which stage an error is."""
    try:
        yield
    except (CycloptsError, EquipruneError) as error:
        raise RecipeError(f"{_where(call)}: {' '.join(str(error).split())}") from error


def _where(call: Call) -> str:
    return f"Stage '{call.name}' ({call.step.stage.command})"


def _check_inputs(call: Call, stages: Sequence[str]) -> None:
    """Refuse files that are not there, unless a stage will give them."""
    for key, words in call.inputs.items():
        for word in words:
            if word in call.given and Path(word).is_absolute() and not Path(word).exists():
                hint = closest(call.given[word], [*stages, *aliases()] if key in MODEL_KEYS else stages)
                raise RecipeError(f"{_where(call)}: {key} is '{call.given[word]}', and there is no '{word}'.{hint}")


def _check_model(text: str, word: str) -> None:
    if Path(word).is_absolute() and not Path(word).exists():
        raise RecipeError(f"model is '{text}', neither a known model nor a file '{word}'.{closest(text, aliases())}")


def _fingerprint(word: str) -> str:
    return fingerprint(word) if Path(word).is_absolute() else _published(word)


@cache
def _published(alias: str) -> str:
    """sha256 of what an alias stands for; opened, because its package or cache may have another one tomorrow."""
    return ep.read_checkpoint(alias)[1].sha256
