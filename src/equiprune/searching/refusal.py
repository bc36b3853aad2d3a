"""Refusal of a search: words for why there is no model to choose."""

from __future__ import annotations

from equiprune.searching.budget import Budget
from equiprune.searching.candidates import Candidate
from equiprune.searching.journal import Finalist, Journal, LeftOut


def refusal(budget: Budget, journal: Journal, smallest: Candidate | None) -> str:
    """Message of a search that found nothing.

    Args:
        budget: what was asked for.
        journal: everything that was tried.
        smallest: as small as the model can be; None where the constraints leave none.
    """
    diverged = [each for each in journal.finalists if each.left_out is LeftOut.DIVERGED]
    if diverged and all(each.errors is None for each in journal.finalists):
        return _diverged(diverged)
    if smallest is None:
        return "The constraints leave no model. Ask for fewer of them."
    return _impossible(budget, smallest)


def _diverged(finalists: list[Finalist]) -> str:
    numbers = ", ".join(str(each.number) for each in finalists)
    return f"Brief training of every finalist diverged (candidates: {numbers}). Give a lower `learning_rate`."


def _impossible(budget: Budget, smallest: Candidate) -> str:
    cost = smallest.predicted
    memory = "" if cost.bytes_per_atom is None else f", {cost.bytes_per_atom / 1e6:.2g} MB per atom"
    return (
        f"No model keeps the budget ({budget}). The smallest that this one can become is about {cost.speed:.1f} "
        f"times as fast and has {cost.parameters:.2g} of the parameters{memory}. Ask for less."
    )
