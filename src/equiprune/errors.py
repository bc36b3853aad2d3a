"""Errors a user can cause and mend. The command line turns them into one message and exit code 2.

Every message says what was given, what is allowed and what to do next.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EquipruneError(Exception):
    r"""Base of all errors that are the input's fault, not the program's; the message is one line.

    >>> str(EquipruneError("'a\nb' is no element."))
    "'a b' is no element."
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # what was given may have line breaks


class CheckpointError(EquipruneError):
    """A model file is missing, broken, foreign or unsafe to open."""


class TargetError(EquipruneError):
    """A target that this model cannot reach."""


class PlanError(EquipruneError):
    """A pruning plan that does not fit this model."""


class StructureError(EquipruneError):
    """Structures that cannot be read or evaluated."""


class OutputError(EquipruneError):
    """An output path that cannot be written."""


class RecipeError(EquipruneError):
    """A pipeline's recipe that cannot be read or followed."""


def closest(given: str, allowed: Iterable[str]) -> str:
    """A hint for a mistyped word, or an empty string.

    >>> closest("7net-l3i4", ["7net-0", "7net-l3i5"])
    " Did you mean '7net-l3i5'?"
    >>> closest("water", ["7net-0"])
    ''
    """
    matches = get_close_matches(given, list(allowed), n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""
