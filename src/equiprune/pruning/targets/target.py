"""The base of all targets: a value that says how much is kept, and of what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from equiprune.blocks import PruningPlan
from equiprune.errors import TargetError
from equiprune.potentials.potential import Potential
from equiprune.pruning.counts import Counts, PruningProblem
from equiprune.pruning.importance import ImportanceScores


@dataclass(frozen=True)
class Draft:
    """Numbers of channels that all targets together leave so far.

    Attributes:
        model: what is pruned.
        counts: channels kept.
        explicit: what is kept by name.
        scores: importance, where there are any.
        round_to: hidden multiplicities are multiples of this.
    """

    model: PruningProblem
    counts: Counts
    explicit: PruningPlan
    scores: ImportanceScores | None
    round_to: int


class Target:
    """Goal of pruning. A target only removes, and says nothing of spaces that it does not concern.

    `equiprune.allocate` asks all targets for `counts` and `keeps`, takes the fewest channels of each, then lets targets
    that depend on the others have their say: `spent` on numbers of channels, `finished` on the plan. A target of your
    own is a subclass; give it a name in files with `equiprune.files.settings.kind`.
    """

    any_model: ClassVar[bool] = False
    """True where a model that upstream's own constructor cannot build is meant."""

    def counts(self, model: PruningProblem) -> Counts:
        """At most so many channels are kept. Raises `TargetError` for what the model cannot be."""
        return {}

    def keeps(self, model: PruningProblem) -> PruningPlan:
        """The plan of what is kept by name, in its order."""
        return PruningPlan.nothing()

    def check(self, model: PruningProblem, explicit: PruningPlan) -> None:
        """Raise `TargetError` where what all targets keep by name is not what this one means."""
        return

    def spent(self, draft: Draft) -> Counts:
        """Numbers of channels after the others were heard."""
        return draft.counts

    def finished(self, potential: Potential, plan: PruningPlan, round_to: int) -> PruningPlan:
        """The plan after channels were chosen."""
        return plan


PerInteraction = int | tuple[int, ...]
"""One number for every interaction, or one for each."""


class PerInteractionTarget(Target):
    """A target with one number for every interaction, or one for each, as its only field."""

    argument: ClassVar[str]
    """In messages."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"2"`` or ``"3,2"``; raises `TargetError` naming the argument."""
        numbers = integers(text, cls.argument)
        return cls(numbers[0] if len(numbers) == 1 else tuple(numbers))  # type: ignore[call-arg]


def integers(text: str, argument: str) -> list[int]:
    """Read ``"40,24"``; raises `TargetError` naming the argument."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise TargetError(f"{argument} takes whole numbers separated by commas, not '{text}'.") from error
