"""The directory of a run: what it is a run of, where it has got to, and its learning curve.

Whatever ends a process, the next one finds whole files: the description and the state are replaced in one step, and
lines of the curve that are newer than the state, or half of one, are cut off.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equiprune.errors import CheckpointError, OutputError, TargetError
from equiprune.files.atomic import holding, read_json, replacing, write_json
from equiprune.training.run_record import current_record, run_record

_NOT_COMPARED = {"model"}
"""Where the start came from: sha256, weights and references say whether it is the same, and a file may be moved."""


@dataclass(frozen=True)
class RunFolder:
    """``recipe.json``, ``state.pt``, ``curve.csv`` and, at the end, ``model`` and with validation ``last``."""

    path: Path

    @property
    def model(self) -> Path:
        """The path of the result."""
        return self.path / "model"

    @property
    def last(self) -> Path:
        """The path of the last model when the result is the best one."""
        return self.path / "last"

    def begun(self, described: Mapping[str, Any]) -> bool:
        """True if the run was begun before.

        Raises:
            OutputError: it was, but as a run of something else; the message names what differs.
        """
        path = self.path / "recipe.json"
        if not path.exists():
            return False
        try:
            stored = current_record(read_json(path, "recipe"))
        except (ValueError, KeyError, TypeError, AttributeError, TargetError) as error:
            raise OutputError(
                f"'{path}' cannot be gone on from ({error}). Update equiprune, or choose another folder."
            ) from error
        if different := sorted(set(_differences(stored, run_record(described))) - _NOT_COMPARED):
            raise OutputError(
                f"'{self.path}' is a run with other settings (different: {', '.join(different)}). Repeat the command "
                "it belongs to, or choose another folder."
            )
        return True

    def begin(self, described: Mapping[str, Any]) -> None:
        """Make the folder. Raises `OutputError` when it cannot be written or holds something else."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            foreign = [path.name for path in self.path.iterdir() if not path.name.startswith(".")]
        except OSError as error:
            raise OutputError(f"'{self.path}' cannot be written ({error.strerror}).") from error
        if foreign:
            raise OutputError(f"'{self.path}' holds {foreign[0]}, which is of no training run. Choose another folder.")
        write_json(self.path / "recipe.json", run_record(described))

    def held(self) -> AbstractContextManager[int | None]:
        """Nobody else may train here meanwhile. Raises `OutputError`, on entering, when another process does."""
        return holding(self.path, f"Another process trains in '{self.path}'.")

    def state(self) -> dict[str, Any] | None:
        """The state that `save` wrote last, on the CPU. Raises `CheckpointError` when it is damaged."""
        path = self.path / "state.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch and the pickle inside have their own exceptions
            raise CheckpointError(f"'{path}' is damaged ({type(error).__name__}). Remove it to start anew.") from error

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the whole state in one step."""
        buffer = BytesIO()
        torch.save(state, buffer)
        with replacing(self.path / "state.pt") as temporary:
            temporary.write_bytes(buffer.getvalue())

    def record(self, row: Mapping[str, Any]) -> int:
        """Add a line to the learning curve; how many bytes it has now."""
        path = self.path / "curve.csv"
        try:
            with path.open("a", newline="") as stream:
                writer = csv.DictWriter(stream, list(row), lineterminator="\n")
                if not stream.tell():
                    writer.writeheader()
                writer.writerow(row)
                return stream.tell()
        except OSError as error:
            raise OutputError(f"'{path}' could not be written ({error.strerror}). Mend that and repeat.") from error

    def rows(self) -> Iterator[dict[str, str]]:
        """The learning curve as it stands, from its first line, read as it goes; half a line at its end is left out.

        Raises `CheckpointError` when it is damaged.
        """
        path = self.path / "curve.csv"
        if path.exists():
            with path.open(newline="") as stream:
                rows = csv.DictReader(line for line in stream if line.endswith("\n"))
                while (row := _numbers_of(path, rows)) is not None:
                    yield row

    def rewind(self, size: int) -> None:
        """Cut the learning curve after this many bytes: what follows will be recorded again."""
        path = self.path / "curve.csv"
        if path.exists() and path.stat().st_size > size:
            os.truncate(path, size)


def _numbers_of(path: Path, rows: Iterator[dict[str, str]]) -> dict[str, str] | None:
    """The next row of a curve, None at its end. Raises `CheckpointError` where something is no number."""
    try:
        row = next(rows, None)
        for value in ({} if row is None else row).values():
            float(value or 0)
    except (csv.Error, TypeError, ValueError) as error:
        raise CheckpointError(f"'{path}' is damaged ({error}). Remove its folder to start anew.") from error
    return row


def _differences(stored: Any, described: Any, name: str = "") -> list[str]:
    """Dotted names of what differs."""
    if not (isinstance(stored, Mapping) and isinstance(described, Mapping)):
        return [] if stored == described else [name]
    keys = sorted(stored.keys() | described.keys())
    return [d for k in keys for d in _differences(stored.get(k), described.get(k), f"{name}.{k}".removeprefix("."))]


@dataclass
class RunState:
    """The position of a run. ``average`` and ``best`` are weights by name."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    """Batches of the epoch that are done."""
    validations: list[float] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    recorded: int = 0
    """Bytes of the learning curve up to here."""

    @property
    def waited(self) -> int:
        """Validations since the best one."""
        return len(self.validations) - 1 - self.validations.index(min(self.validations)) if self.validations else 0

    def on(self, device: torch.device) -> RunState:
        """The same state with its weights on a device."""
        return replace(self, average=_moved(self.average, device), best=_moved(self.best, device))


def _moved(weights: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: weight.to(device) for name, weight in weights.items()}
