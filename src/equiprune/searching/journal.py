"""The journal of a search: what was tried and found so far, so that an interrupted search goes on and ends the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from equiprune.blocks import PruningPlan
from equiprune.errors import EquipruneError, OutputError
from equiprune.files.atomic import read_json, write_json
from equiprune.files.settings import first_difference
from equiprune.searching.budget import Cost
from equiprune.searching.cost_model import Measurement

_FORMAT = "equiprune-search-3"


@dataclass(frozen=True)
class Errors:
    """Mean absolute differences from the labels of structures that were held out: meV/atom, meV/Angstrom.

    The energy is None where no structure has a label of it.
    """

    energy: float | None
    forces: float


@dataclass(frozen=True)
class Tried:
    """A candidate that was built and repaired.

    Attributes:
        number: of the candidate.
        made: how it was found.
        shape: what it loses besides channels, in words.
        plan: what it keeps.
        predicted: its cost by the cost model.
        errors: after the repair, without any training; None where it could not be built or evaluated.
        fault: why it could not.
        repaired: a repair was possible and made forces better.
    """

    number: int
    made: str
    shape: str
    plan: PruningPlan
    predicted: Cost
    errors: Errors | None
    fault: str = ""
    repaired: bool = True

    @property
    def forces(self) -> float:
        """The error by which candidates are compared, meV/Angstrom."""
        return float("inf") if self.errors is None else self.errors.forces


class LeftOut(StrEnum):
    """Reasons why a candidate that was measured is none of the finalists that are chosen from."""

    TOO_COSTLY = "too costly"
    """No size of it was measured within the budget."""
    DIVERGED = "diverged"
    """In brief training."""


@dataclass(frozen=True)
class Finalist:
    """A candidate that was measured, and trained briefly after that.

    Attributes:
        number: of the candidate.
        plan: what it keeps; its widths are those that keep the budget as measured.
        measured: its cost.
        spread: of repeated timings.
        errors: after brief training; None before the end of it.
        confirmed: it was measured again.
        left_out: why it is not chosen from; None where it is.
    """

    number: int
    plan: PruningPlan
    measured: Cost
    spread: float
    errors: Errors | None = None
    confirmed: bool = False
    left_out: LeftOut | None = None

    @property
    def forces(self) -> float:
        """The error by which finalists are compared, meV/Angstrom."""
        return float("inf") if self.errors is None else self.errors.forces

    @property
    def steps(self) -> int:
        """Steps of the search that led here: sized, trained, measured again."""
        return 1 + (self.errors is not None or self.left_out is LeftOut.DIVERGED) + self.confirmed


@dataclass(frozen=True)
class Journal:
    """Everything found so far.

    Attributes:
        asked: the request, which must be the same to go on.
        costs: measurements behind the cost model.
        tried: candidates, in order; `rounds` may have several.
        finalists: of all rounds.
        overhead: memory of the process over that of its tensors, near the budget; None where it was not measured yet.
    """

    asked: Mapping[str, Any]
    costs: tuple[Measurement, ...] = ()
    tried: tuple[Tried, ...] = ()
    finalists: tuple[Finalist, ...] = field(default=())
    overhead: float | None = None

    def with_cost(self, found: Measurement) -> Journal:
        """One more measurement."""
        return replace(self, costs=(*self.costs, found))

    def with_tried(self, found: Tried) -> Journal:
        """One more candidate."""
        return replace(self, tried=(*self.tried, found))

    def with_finalist(self, found: Finalist) -> Journal:
        """One more finalist, or what is known of it by now."""
        return replace(self, finalists=(*self.without_finalist(found.number).finalists, found))

    def without_finalist(self, number: int) -> Journal:
        """One finalist less."""
        return replace(self, finalists=tuple(each for each in self.finalists if each.number != number))

    def finalist(self, number: int) -> Finalist | None:
        """The finalist of this number."""
        return next((each for each in self.finalists if each.number == number), None)

    def missed(self, number: int, measured: Cost) -> Journal:
        """The journal in which a finalist costs what was measured later; it is not confirmed any more.

        Raises:
            OutputError: there is no such finalist.
        """
        found = self.finalist(number)
        if found is None:
            raise OutputError(f"This search has no finalist {number}. Remove its folder to start anew.")
        return self.with_finalist(replace(found, measured=measured, confirmed=False))

    @property
    def steps(self) -> int:
        """Steps of the search since costs were measured: one for a candidate, up to three for a finalist."""
        return len(self.tried) + sum(each.steps for each in self.finalists)

    def to_json(self) -> dict[str, Any]:
        """A JSON value, which `from_json` reads."""
        costs = [each.to_json() for each in self.costs]
        tried, finalists = map(list, (map(tried_json, self.tried), map(finalist_json, self.finalists)))
        found = {"costs": costs, "overhead": self.overhead, "tried": tried, "finalists": finalists}
        return {"asked": dict(self.asked), **found}

    @classmethod
    def from_json(cls, value: Any) -> Journal:
        """Read what `to_json` wrote, among other keys; raises `OutputError` for anything else."""
        try:
            costs = tuple(map(Measurement.from_json, value["costs"]))
            tried, finalists = tuple(map(_tried, value["tried"])), tuple(map(_finalist, value["finalists"]))
            overhead = None if value["overhead"] is None else float(value["overhead"])
            return cls(dict(value["asked"]), costs, tried, finalists, overhead)
        except (KeyError, TypeError, ValueError, AttributeError, EquipruneError) as error:
            raise OutputError(
                "This is not the outcome of a search, or one by another version of equiprune. Remove its folder to "
                "start anew."
            ) from error

    def save(self, path: Path) -> None:
        """Write it."""
        write_json(path, {"format": _FORMAT, **self.to_json()})

    @classmethod
    def begun(cls, path: Path, asked: Mapping[str, Any]) -> Journal:
        """The journal of a file, or an empty one.

        Raises:
            OutputError: it is of another search, of another machine or version of equiprune, or damaged.
        """
        if not path.exists():
            return cls(asked)
        stored = read_json(path, "journal of a search")
        damaged = OutputError(f"'{path}', the journal of a search, is damaged. Remove it to start anew.")
        if not isinstance(stored, dict) or not isinstance(stored.get("asked"), dict):
            raise damaged
        _check_format(path, stored.get("format"))
        _check_machine(path, stored["asked"], asked)
        if stored["asked"] != dict(asked):
            what = first_difference(stored["asked"], asked)
            raise OutputError(
                f"'{path}' is of an interrupted search that asked for something else: {what} differs. Repeat the "
                "command it belongs to, or remove the folder to start anew."
            )
        try:
            return cls.from_json(stored)
        except OutputError as error:
            raise damaged from error


def _check_format(path: Path, stored: object) -> None:
    if stored != _FORMAT:
        raise OutputError(
            f"'{path}' is of a search by another version of equiprune ({stored}; this one writes {_FORMAT}). Go "
            "on with that one, or remove the folder to start anew."
        )


def _check_machine(path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Speeds over that of the parent differ from one machine to another, and are not mixed."""
    there, here = stored.get("machine"), asked.get("machine")
    if there is not None and there != here:
        raise OutputError(
            f"'{path}' is of an interrupted search on another machine ({there}; here {here}): what it measured does "
            "not hold here. Go on there, or remove the folder to start anew."
        )


def journal_of(folder: Path) -> Path:
    """The journal in the folder of a search."""
    return folder / "journal.json"


def tried_json(found: Tried) -> dict[str, Any]:
    """A candidate as JSON."""
    errors = None if found.errors is None else vars(found.errors)
    words = {"number": found.number, "made": found.made, "shape": found.shape}
    return words | {
        "plan": found.plan.to_json(),
        "predicted": vars(found.predicted),
        "errors": errors,
        "fault": found.fault,
        "repaired": found.repaired,
    }


def finalist_json(found: Finalist) -> dict[str, Any]:
    """A finalist as JSON."""
    cost = {"measured": vars(found.measured), "spread": found.spread}
    errors = None if found.errors is None else vars(found.errors)
    return {
        "number": found.number,
        "plan": found.plan.to_json(),
        **cost,
        "errors": errors,
        "confirmed": found.confirmed,
        "left_out": found.left_out,
    }


def _tried(value: Mapping[str, Any]) -> Tried:
    errors = None if value["errors"] is None else Errors(**value["errors"])
    plan, predicted = PruningPlan.from_json(value["plan"]), Cost(**value["predicted"])
    fault, repaired = str(value.get("fault", "")), bool(value.get("repaired", True))  # absent in searches of before
    return Tried(int(value["number"]), value["made"], value["shape"], plan, predicted, errors, fault, repaired)


def _finalist(value: Mapping[str, Any]) -> Finalist:
    plan, measured = PruningPlan.from_json(value["plan"]), Cost(**value["measured"])
    errors = None if value["errors"] is None else Errors(**value["errors"])
    left_out = LeftOut(value["left_out"]) if value.get("left_out") else None  # searches of before have no such key
    number, spread = int(value["number"]), float(value["spread"])
    return Finalist(number, plan, measured, spread, errors, bool(value["confirmed"]), left_out)
