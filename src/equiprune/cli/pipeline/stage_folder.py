"""The folder of one stage of a pipeline: what was asked, with which inputs, and whether what it gave is still there.

``stage.json`` is written when a stage begins and completed when it ends, so that a stage is finished, begun or neither,
whatever ended the process. ``result.json`` is what the command said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from equiprune.errors import OutputError
from equiprune.files.atomic import read_json, write_json
from equiprune.structures.reading import fingerprint

_FORMAT = "equiprune-stage-1"


class Status(Enum):
    """How far a stage has got."""

    NEW = "new"
    BEGUN = "begun"
    DONE = "done"
    CHANGED = "changed"


@dataclass(frozen=True)
class StageFolder:
    """``stage.json``, ``result.json`` and what the command writes."""

    path: Path

    @property
    def result(self) -> Path:
        """What the command said, as JSON."""
        return self.path / "result.json"

    def status(self, described: Mapping[str, Any]) -> tuple[Status, str]:
        """How far this very stage has got, and what has changed if it is another one.

        Args:
            described: settings, fingerprints of inputs and version, as `begin` recorded them.

        Raises:
            OutputError: the folder holds something that is of no stage.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return Status.NEW, ""
        record = self._record()
        before = record["described"]
        if before != described:
            return Status.CHANGED, f"{_first_difference(before, described)} changed"
        if "outputs" not in record:
            return Status.BEGUN, "begun, but not ended"
        spoilt = [name for name, sha256 in record["outputs"].items() if self._fingerprint(name) != sha256]
        return (Status.CHANGED, f"its {spoilt[0]} is not as it was written") if spoilt else (Status.DONE, "")

    def begin(self, described: Mapping[str, Any], command: Sequence[str]) -> None:
        """Record what is begun."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write({"command": list(command), "described": described})

    def finish(self, outputs: Sequence[str], seconds: float) -> None:
        """Record that the stage is done, with fingerprints of what must stay for it to count as done."""
        found = {name: self._fingerprint(name) for name in outputs}
        self._write({**self._record(), "outputs": found, "seconds": round(seconds, 2)})

    def in_the_way(self, status: Status, keeps: str | None) -> list[Path]:
        """What must be set aside before the stage begins: the whole folder of another, or what it does not go on from.

        A command overwrites nothing, so what an attempt without an end has left would stop the next one.

        Args:
            status: how far the stage has got.
            keeps: name of what its command goes on from.
        """
        if status is Status.CHANGED:
            return [self.path]
        begun = status is Status.BEGUN
        return [path for path in sorted(self.path.iterdir()) if path.name not in (keeps, "stage.json")] if begun else []

    def spare(self) -> Path:
        """Where `set_aside` would move things."""
        taken = (self.path.with_name(f"{self.path.name}.{i}") for i in range(1, 1_000_000))
        return next(path for path in taken if not path.exists())

    def set_aside(self, paths: Sequence[Path]) -> None:
        """Make room for the stage to be done again, and keep what is `in_the_way`: the whole folder, or some of it."""
        spare = self.spare()
        if self.path in paths:
            self.path.rename(spare)
            return
        spare.mkdir()
        for path in paths:
            path.rename(spare / path.name)

    def _record(self) -> dict[str, Any]:
        path = self.path / "stage.json"
        value = read_json(path, "record of a stage") if path.exists() else None
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise OutputError(
                f"'{self.path}' is not the folder of a stage. Choose another folder for the pipeline, or remove it."
            )
        return value

    def _write(self, record: Mapping[str, Any]) -> None:
        write_json(self.path / "stage.json", {"format": _FORMAT, **record})

    def _fingerprint(self, name: str) -> str:
        path = self.path / name
        return fingerprint(path) if path.exists() else ""


def _first_difference(before: Any, after: Any, name: str = "") -> str:
    """The dotted name of the first thing that differs.

    >>> _first_difference({"settings": {"epochs": ["2"]}}, {"settings": {"epochs": ["3"]}})
    'settings.epochs'
    """
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return name
    different = next(key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key))
    return _first_difference(before.get(different), after.get(different), f"{name}.{different}".removeprefix("."))
