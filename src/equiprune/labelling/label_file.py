"""A file of labelled structures that is written batch by batch, so that labelling goes on where it was interrupted.

Until it is complete, a folder beside it (``labelled.extxyz.partial``) holds what there is, and a record of how much of
that is whole and by which settings it came about. Whatever follows what the record counts is of an unfinished batch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms

from equiprune.errors import CheckpointError, OutputError, TargetError
from equiprune.files.atomic import KEPT, check_writable, read_json, write_json, writing
from equiprune.files.settings import VERSION, current, from_text, to_json
from equiprune.labelling.tally import Tally


@dataclass(frozen=True)
class Written:
    """The whole part of a file."""

    structures: int = 0
    bytes: int = 0
    tally: Tally | None = None
    """Progress of the job; None where that is the number of structures, as in records of before."""


NOTHING = Written()


def _numbers(written: Written) -> dict[str, Any]:
    """The JSON of it in a record."""
    tally = {"tally": written.tally.to_json()} if written.tally else {}
    return {"structures": written.structures, "bytes": written.bytes, **tally}


_TEXTS = ("augmentation", "dynamics", "hessian")
"""Entries that records of version 1 held as text."""


def _current(settings: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Recorded settings as this version would write them."""
    if version not in (1, VERSION):
        raise ValueError(f"a record of version {version}")
    texts = {name: to_json(from_text(settings[name])) for name in _TEXTS if version == 1 and name in settings}
    return current({**settings, **texts})


@dataclass(frozen=True)
class LabelFile:
    """Structures as extxyz.

    Attributes:
        output: where they are once all are there.
        settings: everything that they depend on: JSON values, and frozen dataclasses of a `kind`.
    """

    output: Path
    settings: Mapping[str, Any]

    @property
    def partial(self) -> Path:
        """The folder of a file that is not complete."""
        return self.output.with_name(f"{self.output.name}.partial")

    @property
    def _settings(self) -> dict[str, Any]:
        return to_json(self.settings)

    @property
    def _data(self) -> Path:
        return self.partial / self.output.name

    @property
    def _record(self) -> Path:
        return self.partial / "record.json"

    def written(self) -> Written:
        """The part that an interrupted attempt by the same settings has finished; the file ends there.

        Raises:
            OutputError: it was another model, other data or other settings, or is damaged.
        """
        if not os.path.lexists(self.partial):
            return NOTHING
        found = self._recorded()
        with self._explained(found):
            size = self._data.stat().st_size if self._data.exists() else 0
            if not self._data.exists():  # complete, and then removed
                shutil.rmtree(self.partial)
                return NOTHING
            if size < found.bytes:
                raise self._unusable("is damaged: labels are missing")
            os.truncate(self._data, found.bytes)
        return found

    def append(self, structures: Sequence[Atoms], after: Written, tally: Tally | None = None) -> Written:
        """Add a batch, which may be empty, behind what is there; what there is then.

        Raises:
            OutputError: the disk is full, or another process writes the same file.
        """
        from ase.io import write  # slow to import, and only needed here

        with self._explained(after):
            self.partial.mkdir(exist_ok=True)
            there = replace(self._recorded(), bytes=self._data.stat().st_size if self._data.exists() else 0)
            if there != after:
                raise OutputError(f"Another process writes '{self.partial}'. Wait for it, or choose another output.")
            try:
                self._data.touch()
                if structures:
                    write(self._data, structures, format="extxyz", append=True)
                now = Written(after.structures + len(structures), self._data.stat().st_size, tally)
                write_json(self._record, {"version": VERSION, "settings": self._settings, **_numbers(now)})
            except BaseException:
                if after == NOTHING:
                    shutil.rmtree(self.partial, ignore_errors=True)
                raise
        return now

    def finish(self, written: Written) -> None:
        """Put the complete file where it belongs. Raises `OutputError` if something is there by now."""
        check_writable(self.output)
        with self._explained(written):
            os.replace(self._data, self.output)
            shutil.rmtree(self.partial)

    def discard(self) -> None:
        """Remove what there is of a file that cannot become complete."""
        shutil.rmtree(self.partial)

    def _recorded(self) -> Written:
        if not self._record.exists():
            if self.partial.is_dir() and all(p == self._data or p.name.startswith(".") for p in self.partial.iterdir()):
                return NOTHING
            raise self._unusable("is no interrupted labelling")
        try:
            record = read_json(self._record, "record of an interrupted labelling")
            settings = _current(record["settings"], record.get("version", 1))
            tally = Tally.from_json(record["tally"]) if "tally" in record else None
            found = Written(int(record["structures"]), int(record["bytes"]), tally)
        except (CheckpointError, TargetError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._unusable(f"is damaged ({error})") from error
        if settings != self._settings:
            raise self._unusable("is an interrupted labelling of another model, data or setting")
        return found

    def _unusable(self, why: str) -> OutputError:
        return OutputError(f"'{self.partial}' {why}. Remove it to start anew, or repeat the command it belongs to.")

    @contextmanager
    def _explained(self, finished: Written) -> Iterator[None]:
        with writing(self.output) if finished == NOTHING else writing(self.output, KEPT):
            yield
