"""A folder of long work, with a record of the settings by which it is done, so that other work never goes on in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equiprune.errors import CheckpointError, OutputError
from equiprune.files.atomic import KEPT, read_json, write_json, writing
from equiprune.files.settings import VERSION, current, to_json


@dataclass(frozen=True)
class RecordedFolder:
    """A folder of work that may be interrupted.

    Attributes:
        path: made where there is none.
        settings: everything that the work depends on: JSON values, and frozen dataclasses of a `kind`.
        name: of the record, without a suffix.
        other: words for work by other settings.
    """

    path: Path
    settings: Mapping[str, Any]
    name: str
    other: str

    def begin(self) -> None:
        """Make the folder, or see that it is of this work.

        Raises:
            OutputError: it is of other work, holds other files, is damaged or cannot be written.
        """
        record, settings = self.path / f"{self.name}.json", to_json(self.settings)
        with writing(self.path, KEPT):
            self.path.mkdir(parents=True, exist_ok=True)
            if not record.exists():
                if any(not path.name.startswith(".") for path in self.path.iterdir()) and not record.exists():
                    raise self.unusable("holds other files")
                write_json(record, {"version": VERSION, "settings": settings})
        try:
            stored = current(read_json(record, f"record of {self.name}")["settings"])
        except (CheckpointError, KeyError, TypeError, ValueError) as error:
            raise self.unusable(f"is damaged ({error})") from error
        if stored != settings:
            raise self.unusable(f"is {self.other}")

    def unusable(self, why: str) -> OutputError:
        """The error for a folder that cannot be gone on with."""
        return OutputError(f"'{self.path}' {why}. Remove it to start anew, or repeat the command it belongs to.")
