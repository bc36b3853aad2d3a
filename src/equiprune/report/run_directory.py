"""Run directories: everything in a folder that a report can show, and what there is none of."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from equiprune.errors import EquipruneError, OutputError
from equiprune.pruning.importance import ImportanceScores
from equiprune.report.model_facts import (
    ARCHITECTURE,
    ModelFacts,
    OpenedModel,
    Unopened,
    facts_of_directory,
    facts_of_file,
    opened,
)
from equiprune.report.results import Found, recognised

_DEEPEST = 4
"""Folders below the one that was given."""
_LARGEST = 64 * 2**20
"""Bytes of a JSON file that is looked into."""
_STAGE, _RESULT, _CURVE, _RECIPE = "stage.json", "result.json", "curve.csv", "recipe.yaml"
_CERTIFICATE, _CERTIFICATE_BEGINS = ".md", "# Certificate\n"
_ENDINGS = ("/run/model", "/model")
"""Ends of the paths of models that say nothing besides the folder."""

T = TypeVar("T")


@dataclass(frozen=True)
class Named(Generic[T]):
    """A thing that was found, and the place in the folder where."""

    place: str
    content: T


@dataclass(frozen=True)
class Stage:
    """A stage of a pipeline.

    Attributes:
        line: its command.
        done: False where it was begun and not ended.
        seconds: that it took.
    """

    line: tuple[str, ...]
    done: bool
    seconds: float | None

    @property
    def command(self) -> str:
        """Name of the command."""
        return self.line[1] if len(self.line) > 1 else ""


Curve = Mapping[str, Sequence[float | None]]
"""Columns of a learning curve."""


@dataclass(frozen=True)
class RunDirectory:
    """Everything that was found in a folder.

    Attributes:
        folder: that was looked through.
        stages: of pipelines.
        results: of commands.
        scores: of calibrations.
        models: directories that equiprune wrote, and checkpoints of upstream's formats.
        unopened: checkpoints that cannot be opened.
        certificates: as text, as ``certify`` writes them.
        curves: of training runs.
    """

    folder: Path
    stages: Sequence[Named[Stage]]
    results: Sequence[Named[Found]]
    scores: Sequence[Named[ImportanceScores]]
    models: Sequence[Named[ModelFacts]]
    unopened: Sequence[Named[Unopened]]
    certificates: Sequence[Named[str]]
    curves: Sequence[Named[Curve]]

    @classmethod
    def read(cls, folder: Path) -> RunDirectory:
        """Look through a folder.

        Raises:
            OutputError: there is no such folder, it cannot be read, or nothing in it is a result of equiprune.
        """
        if not folder.is_dir():
            raise OutputError(f"'{folder}' is no folder. Give the folder of a run, such as the output of 'compress'.")
        try:
            files = sorted(_files(folder, _DEEPEST))
        except OSError as error:
            raise OutputError(f"'{folder}' cannot be read: {error.strerror}.") from error
        values = {path: _json(path) for path in files if path.suffix == ".json" and path.stat().st_size <= _LARGEST}
        stages = {path.parent: _stage(value) for path, value in values.items() if path.name == _STAGE}
        results = {path: value for path, value in values.items() if _counts(path, stages)}
        written = {path: facts_of_file(path) for path in files}
        models = {path.parent: facts_of_directory(path.parent) for path in files if path.name == ARCHITECTURE}
        models |= {path: found for path, found in written.items() if isinstance(found, ModelFacts)}

        def named(found: Mapping[Path, T | None]) -> list[Named[T]]:
            return [Named(_place(path, folder), each) for path, each in sorted(found.items()) if each is not None]

        found = cls(
            folder,
            named(stages),
            named({path: recognised(value) for path, value in results.items()}),
            named({path: _scores(value) for path, value in values.items()}),
            named(models),
            named({path: found for path, found in written.items() if isinstance(found, Unopened)}),
            named({path: _certificate(path) for path in files if path.suffix == _CERTIFICATE}),
            named({path.parent: _curve(path) for path in files if path.name == _CURVE}),
        )
        if not (found.results or found.scores or found.models or found.curves):
            raise OutputError(
                f"Nothing in '{folder}' is a result of equiprune. A report is made from the output of 'compress', "
                "'run' or 'demo', or from a folder with what commands printed with --json."
                f"{''.join(f' {each.place} cannot be opened: {each.content.reason}' for each in found.unopened)}"
            )
        return found

    def of(self, kind: type[T]) -> list[Named[T]]:
        """Results of one kind, by place."""
        return [Named(each.place, each.content) for each in self.results if isinstance(each.content, kind)]

    @cached_property
    def result(self) -> Named[ModelFacts] | None:
        """The model that all was for: of those with the longest history, the one least deep in the folder."""
        return max(
            self.models,
            key=lambda each: (len(each.content.history), -each.place.count("/"), "last" not in each.place.split("/")),
            default=None,
        )

    @cached_property
    def opened(self) -> OpenedModel | Unopened | None:
        """The model that all was for, as data."""
        return None if self.result is None else opened(self.folder / self.result.place)

    @cached_property
    def names_of_result(self) -> frozenset[str]:
        """Names of the model that all was for; stages hold copies of it."""
        if self.result is None:
            return frozenset()
        made = self.result.content.history
        return frozenset(
            self.name_of(each.place)
            for each in self.models
            if each is self.result or (made and each.content.history == made)
        )

    @property
    def unfinished(self) -> list[str]:
        """Stages that were begun and not ended."""
        return [stage.place for stage in self.stages if not stage.content.done]

    def name_of(self, model: str) -> str:
        """A model as a reader knows it: a path into the folder becomes the name of the place there."""
        model = self.place_of(model)
        for ending in _ENDINGS:
            model = model.removesuffix(ending)
        return model

    def place_of(self, path: str) -> str:
        """A path into the folder from there; any other text as it is.

        Of absolute paths those count that lie where the folder is, or was when its stages wrote into it. Where no stage
        says where that was, and for relative paths, it is the longest end of the path that exists in the folder.
        """
        given = Path(path)
        if given.is_absolute():
            for home, place in self._homes.items():
                if given != home and given.is_relative_to(home):
                    return (place / given.relative_to(home)).as_posix()
            if self._former:
                return path
        parts = given.parts[given.is_absolute() :]
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        return next((end for end in ends if (self.folder / end).exists()), path)

    @cached_property
    def _homes(self) -> Mapping[Path, PurePosixPath]:
        """Paths at which the folder lies, and lay when its stages ran, each with its place in the folder."""
        now = dict.fromkeys((self.folder.absolute(), self.folder.resolve()), PurePosixPath())
        return {**now, **self._former}

    @cached_property
    def _former(self) -> Mapping[Path, PurePosixPath]:
        """Paths at which stages ran: what each wrote lies in a folder of its name."""
        found = {}
        for stage in self.stages:
            place, pairs = PurePosixPath(stage.place), pairwise(stage.content.line)
            for path in (Path(after) for before, after in pairs if before == "--output"):
                own = next((parent for parent in path.parents if place.name and parent.name == place.name), None)
                if own is not None and own.is_absolute():
                    found[own.parent] = place.parent
        return found

    def without_folder(self, text: str) -> str:
        """A text without the way to the folder: places are named from there, wherever it lies."""
        return text.replace(f"{self.folder}{os.sep}", "").replace(f"{self.folder.resolve()}{os.sep}", "")

    def title_of(self, place: str) -> str:
        """A name for a result: of its data, where that is recorded."""
        return self.data_of(place) or place

    def data_of(self, place: str) -> str:
        """Name of the data file that a stage was about; empty where that is not recorded."""
        lines = [stage.content.line for stage in self.stages if stage.place == place]
        flags = ("--data", "--structure")
        found = [after for line in lines for before, after in pairwise(line) if before in flags]
        return Path(found[0]).name if found else ""


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Files of a folder and those below; links, what begins with a dot and what was set aside are left out."""
    for path in folder.iterdir():
        if path.name.startswith(".") or path.is_symlink() or _set_aside(path):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and depth:
            yield from _files(path, depth - 1)


def _set_aside(path: Path) -> bool:
    """True for what is kept and counts no more: ``train.1`` beside ``train``, ``model.1`` where 'compress' worked."""
    return path.suffix[1:].isdecimal() and any(path.with_name(name).exists() for name in (path.stem, _RECIPE))


def _counts(path: Path, stages: Mapping[Path, Stage]) -> bool:
    """True for a file that may be a result: of everything in the folder of a stage it is one file."""
    return (path.name == _RESULT and path.parent in stages) or stages.keys().isdisjoint(path.parents)


def _place(path: Path, folder: Path) -> str:
    """A place in the folder: of the result of a stage or command its folder, of other files the name."""
    inside = path.parent if path.name == _RESULT else path
    return (inside.with_suffix("") if inside.suffix == ".json" else inside).relative_to(folder).as_posix()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _stage(value: Any) -> Stage:
    record = value if isinstance(value, dict) else {}
    line, seconds = record.get("command"), record.get("seconds")
    words = tuple(map(str, line)) if isinstance(line, list) else ()
    return Stage(words, "outputs" in record, float(seconds) if isinstance(seconds, int | float) else None)


def _scores(value: Any) -> ImportanceScores | None:
    try:
        return ImportanceScores.from_json(value)
    except EquipruneError:
        return None


def _certificate(path: Path) -> str | None:
    """The text of a certificate; None for any other text."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return text if text.startswith(_CERTIFICATE_BEGINS) else None


def _curve(path: Path) -> Curve | None:
    """Columns of numbers; None for a table without a step or rows."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [float(row[name]) if row[name] else None for row in rows] for name in rows[0]}
    except (OSError, ValueError, TypeError, KeyError, IndexError, csv.Error):
        return None
    return columns if "step" in columns else None
