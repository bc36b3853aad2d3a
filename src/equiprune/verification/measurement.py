"""Measurements: numbers that other commands measured of a certified model, with where they come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

HEADS = ("measured", "value", "parent", "unit", "", "from")
"""Heads of the columns of `Measurement.row`."""
_NONE = "-"


@dataclass(frozen=True)
class Measurement:
    """A number measured of a model.

    Attributes:
        name: what was measured, and of what.
        value: in ``unit``; None where the model failed before there was one.
        unit: empty for a number without one.
        source: the file that it is from.
        error: standard error, where it is known.
        parent: the same of the parent, where the file has it.
        passed: the verdict of the command that measured it; None where it gives none.
    """

    name: str
    value: float | None
    unit: str = ""
    source: str = ""
    error: float | None = None
    parent: float | None = None
    passed: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)

    def row(self) -> list[str]:
        """Cells of a table: name, value, the parent's, unit, verdict, source.

        >>> Measurement("energy drift", 0.02, "meV/atom/ps", "md.json", error=0.013, passed=True).row()
        ['energy drift', '0.02 ± 0.013', '-', 'meV/atom/ps', 'ok', 'md.json']
        """
        value = _NONE if self.value is None else f"{self.value:.3g}"
        error = "" if self.error is None or self.value is None else f" ± {self.error:.2g}"
        parent = _NONE if self.parent is None else f"{self.parent:.3g}"
        verdict = "" if self.passed is None else "ok" if self.passed else "FAILS"
        return [self.name, value + error, parent, self.unit, verdict, self.source]
