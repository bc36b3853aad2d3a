"""Outcomes of a measurement: numbers, or the reason why there are none. The reason never ends the rest.

Numbers are JSON values: a float, a list of floats where a quantity is a curve or a spectrum, and None where a quantity
has no meaning for a structure that has others (the entropy of a crystal with imaginary modes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from equiprune.errors import EquipruneError
from equiprune.potentials.out_of_memory import is_out_of_memory

Value = float | Sequence[float] | None
"""One number, several, or None where the quantity has no meaning."""

Values = Mapping[str, Value]
"""Numbers by the name of their quantity, in the units of the quantities."""


class Why(Enum):
    """Reasons for which a structure has no value of a property."""

    UNKNOWN_ELEMENT = "unknown element"
    NOT_A_CRYSTAL = "not periodic in three directions"
    NOT_AT_REST = "not at rest"
    COLLAPSED = "collapsed"
    FLOWN_APART = "flown apart"
    NOT_FINITE = "not finite"
    BAD_FIT = "bad fit"
    UNSTABLE = "unstable"
    FAILED = "failed"


class UnmeasurableError(EquipruneError):
    """A property that one structure does not have with one model."""

    def __init__(self, why: Why, said: str) -> None:
        super().__init__(said)
        self.why = why


@dataclass(frozen=True)
class Outcome:
    """The values of one property, one structure and one model, or why there are none.

    Attributes:
        values: by quantity; empty without any.
        why: the reason; None if there are values.
        said: the reason in words, with its numbers.
    """

    values: Values = field(default_factory=dict)
    why: Why | None = None
    said: str = ""

    def to_record(self) -> dict[str, Any]:
        """Everything as JSON; `from_record` reads it."""
        if self.why is None:
            return {"values": dict(self.values)}
        return {"why": self.why.value, "said": self.said}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Outcome:
        """The value that `to_record` wrote."""
        if "values" in record:
            return cls(record["values"])
        return cls(why=Why(record["why"]), said=record["said"])


def outcome(measure: Callable[[], Values]) -> Outcome:
    """The outcome of a measurement, whatever becomes of it; only a lack of memory, and Ctrl-C, end the rest.

    >>> outcome(lambda: {"volume": 11.8})
    Outcome(values={'volume': 11.8}, why=None, said='')
    >>> outcome(lambda: {"volume": 1 / 0}).why
    <Why.FAILED: 'failed'>
    >>> outcome(lambda: {"volume": float("nan")}).said
    'the volume is not a finite number'
    """
    try:
        with np.errstate(all="ignore"):  # every value is looked at
            values = measure()
        check_finite(values)
    except UnmeasurableError as error:
        return Outcome(why=error.why, said=str(error))
    except Exception as error:  # every calculator and every fit fails in its own way
        if is_out_of_memory(error):  # the machine's fault, not the model's
            raise
        return Outcome(why=Why.FAILED, said=" ".join(f"{type(error).__name__}: {error}".split()))
    return Outcome(values)


def check_finite(values: Values) -> None:
    """Raise `UnmeasurableError` naming the quantity that is NaN or infinite."""
    for name, value in values.items():
        if value is not None and not np.isfinite(value).all():
            raise UnmeasurableError(Why.NOT_FINITE, f"the {name.replace('_', ' ')} is not a finite number")
