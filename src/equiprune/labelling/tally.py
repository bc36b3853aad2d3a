"""Progress of a job of labelling, and what became of the structures that were visited on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from equiprune.labelling.screening import Objection, Screening
from equiprune.labelling.walks import BEGINNING, EarlyEnd, Place, Why

_WALKS = {why.value: 0 for why in Why}
_STRUCTURES = {objection.value: 0 for objection in Objection}


@dataclass(frozen=True)
class Tally:
    """Numbers at a place of a stream of visits.

    Attributes:
        place: how far it is.
        visits: structures that were visited so far, labelled or left out.
        frames: those that came of walks and were labelled.
        walks_ended: walks that ended early, by `Why`.
        left_out: structures whose labels were left out, by `Objection`.
    """

    place: Place = BEGINNING
    visits: int = 0
    frames: int = 0
    walks_ended: Mapping[str, int] = field(default_factory=lambda: dict(_WALKS))
    left_out: Mapping[str, int] = field(default_factory=lambda: dict(_STRUCTURES))

    @property
    def starts(self) -> int:
        """Starts that were visited."""
        return self.place.starts + (self.place.visits > 0)

    @classmethod
    def of(cls, structures: int, most: int) -> Tally:
        """After so many structures of a job that keeps all that it visits, so many of each start."""
        return cls(Place(*divmod(structures, most)), structures)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """The tally of what `to_json` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        starts, visits = map(int, value["place"])
        ended, left_out = value["walks_ended"], value["left_out"]
        if ended.keys() != _WALKS.keys() or left_out.keys() | {Objection.FAILED.value} != _STRUCTURES.keys():
            raise ValueError("reasons that this version does not know")
        counts = int(value["visits"]), int(value["frames"])
        return cls(Place(starts, visits), *counts, dict(ended), _STRUCTURES | left_out)

    def __add__(self, later: Tally) -> Tally:
        """Numbers of both, of which the later one says how far it is."""
        counts = self.visits + later.visits, self.frames + later.frames
        ended = Counter(self.walks_ended) + Counter(later.walks_ended)
        left_out = Counter(self.left_out) + Counter(later.left_out)
        return Tally(later.place, *counts, _WALKS | ended, _STRUCTURES | left_out)

    def to_json(self) -> dict[str, Any]:
        """As JSON, with all keys."""
        counts = {"visits": self.visits, "frames": self.frames}
        ended, left_out = dict(self.walks_ended), dict(self.left_out)
        return {"place": [self.place.starts, self.place.visits], **counts, "walks_ended": ended, "left_out": left_out}

    def after(
        self, place: Place, visits: int, frames: int, ends: Iterable[EarlyEnd], out: Iterable[Objection]
    ) -> Tally:
        """After further visits up to a place, of which some frames were labelled."""
        ended = Counter(self.walks_ended) + Counter(end.why.value for end in ends)
        left_out = Counter(self.left_out) + Counter(objection.value for objection in out)
        counts = self.visits + visits, self.frames + frames
        return Tally(place, *counts, _WALKS | ended, _STRUCTURES | left_out)


_ENDED = {
    Why.TOO_CLOSE: "where atoms came too close",
    Why.FLOWN_APART: "where atoms flew apart",
    Why.NOT_FINITE: "where positions were no numbers",
    Why.FAILED: "where the student failed",
}


def ended_said(tally: Tally) -> list[str]:
    """Sentences on walks that ended early, and why; none where all went to their end."""
    parts = {words: tally.walks_ended[why.value] for why, words in _ENDED.items()}
    return _sentence("Walks of the student that ended early", parts)


def left_out_said(tally: Tally, screening: Screening) -> list[str]:
    """Sentences on structures that were left out, and why; none where all were kept."""
    apart = f"{screening.largest_disagreement or 0:g} eV/Angstrom"
    words = {
        Objection.FAILED: "on which the calculator failed",
        Objection.NOT_FINITE: "with labels that are no numbers",
        Objection.FORCE: f"with a force above {screening.largest_force or 0:g} eV/Angstrom",
        Objection.DISAGREEMENT: f"with forces on which the teachers disagree by more than {apart}",
    }
    return _sentence("Structures left out", {said: tally.left_out[why.value] for why, said in words.items()})


def _sentence(what: str, parts: Mapping[str, int]) -> list[str]:
    """Counts of something.

    >>> _sentence("Walks", {"that failed": 2, "that flew apart": 0})
    ['Walks: 2 that failed.']
    """
    listed = ", ".join(f"{number} {words}" for words, number in parts.items() if number)
    return [f"{what}: {listed}."] if listed else []
