"""A command as one value: complete when constructed, done by one call.

``Train("7net-l3i5", data="labelled.extxyz", output="run").run()`` is ``equiprune train 7net-l3i5 --data
labelled.extxyz --output run``. Constructing it refuses everything that can be refused before a file is opened; `run`
prints nothing. Remarks go to the logger ``equiprune``.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from equiprune.commands.options.values import Complete
from equiprune.commands.stages import Kind
from equiprune.progress import Display, unseen

remarks = logging.getLogger("equiprune")
"""Remarks of a command besides its result."""


class Result(Protocol):
    """Outcome of a command."""

    def to_json(self) -> Any:
        """The same as JSON: what ``--json`` prints."""


R = TypeVar("R", bound=Result | None, covariant=True)


class Request(Complete, ABC, Generic[R]):
    """Base of all commands: frozen dataclasses, whose fields are the arguments."""

    stage: ClassVar[Kind] = Kind()
    """The command as a stage of a pipeline."""
    measures: ClassVar[bool] = False
    """True where time and memory are its result: they are then those of any other program."""

    @classmethod
    def command(cls) -> str:
        """Its name on the command line."""
        return cls.__name__.lower()

    @abstractmethod
    def run(self, display: Display = unseen) -> R:
        """Do it; ``display`` shows how far it is."""
