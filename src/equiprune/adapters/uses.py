"""Uses of a written model: lines that a reader copies, one value for each program that opens the file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """Lines that make a program use a model.

    Attributes:
        program: that uses it, and by which code.
        lines: to copy; files are named from the folder in which they are typed.
    """

    program: str
    lines: str


def typed(text: str) -> str:
    """A word for a shell."""
    return shlex.quote(text)
