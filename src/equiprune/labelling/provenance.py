"""Origins of labelled structures, in words that go to the file with it."""

from __future__ import annotations

from dataclasses import dataclass

from equiprune.labelling.unlabelled import survives
from equiprune.labelling.walks import Visit


@dataclass(frozen=True)
class Provenance:
    """Names of what structures come from; nothing is written where they are empty.

    ``info["labelled_from"]`` is "structure 12 of crystals.extxyz", and ``info["labelled_as"]`` is "itself", "displaced
    copy 2", "molecular dynamics of small.pth, frame 3" or "relaxation of small.pth from displaced copy 2, frame 1";
    ``info["student_sha256"]`` says which student that was.

    Attributes:
        source: of the structures.
        driver: of the model that makes the walks.
    """

    source: str = ""
    driver: str = ""

    def described(self) -> dict[str, object]:
        """The settings that are compared when a job is resumed: names are in the file."""
        return {"names": [self.source, self.driver]} if self.source else {}

    def of(self, visit: Visit, copy: str, student_sha256: str) -> dict[str, str]:
        """Entries of ``info`` for a structure.

        ``copy`` says what its start is of the structure of the file; ``student_sha256`` is empty for a model without a
        file, and where the teacher makes the walks.
        """
        if not self.source:
            return {}
        found = {"labelled_from": f"structure {visit.origin.number} of {_readable(self.source, 'the file')}"}
        if not visit.walk:
            return found | {"labelled_as": copy or "itself"}
        start = f" from {copy}" if copy else ""
        made = f"{visit.walk.name} of {_readable(self.driver, 'a model')}{start}, frame {visit.frame}"
        return found | {"labelled_as": made} | ({"student_sha256": student_sha256} if student_sha256 else {})


NO_PROVENANCE = Provenance()
"""Nothing is written."""


def _readable(name: str, instead: str) -> str:
    """A name that an extxyz file gives back."""
    return name if survives("name", name) else instead
