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

from equiprune.commands.stages import RESULT
from equiprune.errors import OutputError
from equiprune.files.atomic import read_json, write_json
from equiprune.files.settings import first_difference
from equiprune.structures.reading import fingerprint

_FORMAT = "equiprune-stage-1"


class Status(Enum):
    """Progress of a stage."""

    NEW = "new"
    BEGUN = "begun"
    DONE = "done"
    CHANGED = "changed"


@dataclass(frozen=True)
class State:
    """Progress of a stage, why it is done again, and what is set aside before that."""

    status: Status
    why: str = ""
    in_the_way: Sequence[Path] = ()


@dataclass(frozen=True)
class StageFolder:
    """``stage.json``, ``result.json`` and what the command writes."""

    path: Path

    @property
    def result(self) -> Path:
        """Result of the command, as JSON."""
        return self.path / RESULT

    @property
    def _stage(self) -> Path:
        return self.path / "stage.json"

    def state(self, described: Mapping[str, Any], keeps: str | None) -> State:
        """Progress of this very stage, and what has changed if it is another one.

        A command overwrites nothing, so what an attempt without an end has left would stop the next one.

        ``described`` is compared with what `begin` recorded, and ``keeps`` is what the command goes on from.

        Raises:
            OutputError: the folder holds something that is of no stage.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return State(Status.NEW)
        record = self._record()
        before = {"code": described["code"], **record["described"]}  # first records had the version alone
        if before != described:
            return self.changed(f"{first_difference(before, described)} changed")
        if "outputs" not in record:
            left = [path for path in sorted(self.path.iterdir()) if path.name not in (keeps, "stage.json")]
            return State(Status.BEGUN, "begun, but not ended", left)
        spoilt = [name for name, sha256 in record["outputs"].items() if self._fingerprint(name) != sha256]
        return self.changed(f"its {spoilt[0]} is not as it was written") if spoilt else State(Status.DONE)

    def changed(self, why: str) -> State:
        """Another stage is to have the folder."""
        return State(Status.CHANGED, why, [self.path])

    def begin(self, described: Mapping[str, Any], command: Sequence[str]) -> None:
        """Record what is begun."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self._stage, {"format": _FORMAT, "command": list(command), "described": described})

    def finish(self, outputs: Sequence[str], seconds: float) -> None:
        """Record that the stage is done, with fingerprints of what must stay for it to count as done."""
        found = {name: self._fingerprint(name) for name in outputs}
        write_json(self._stage, {**self._record(), "outputs": found, "seconds": round(seconds, 2)})

    def reopen(self) -> None:
        """Forget that the stage is done, so that its command goes on."""
        unfinished = {key: value for key, value in self._record().items() if key not in ("outputs", "seconds")}
        write_json(self._stage, unfinished)

    def _record(self) -> dict[str, Any]:
        value = read_json(self._stage, "record of a stage") if self._stage.exists() else None
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise OutputError(
                f"'{self.path}' is not the folder of a stage. Choose another folder for the pipeline, or remove it."
            )
        return value

    def _fingerprint(self, name: str) -> str:
        path = self.path / name
        return fingerprint(path) if path.exists() else ""
