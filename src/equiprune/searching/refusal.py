"""Refusal of a search: words for why there is no model to choose."""

from __future__ import annotations

from collections.abc import Sequence

from equiprune.searching.budget import Budget
from equiprune.searching.candidates import Candidate
from equiprune.searching.journal import Finalist, Journal, LeftOut, Tried


def refusal(budget: Budget, journal: Journal, smallest: Candidate | None) -> str:
    """Message of a search that found nothing.

    Args:
        budget: what was asked for.
        journal: everything that was tried.
        smallest: the model that would come nearest to the budget by prediction; None where the constraints leave none.
    """
    diverged = [each for each in journal.finalists if each.left_out is LeftOut.DIVERGED]
    missed = [each for each in journal.finalists if each not in diverged and budget.excess(each.measured) > 1]
    if missed:
        return _missed(budget, missed)
    if diverged:
        return _diverged(diverged)
    if journal.tried and all(each.errors is None for each in journal.tried):
        return _unbuilt(journal.tried)
    return "The constraints leave no model. Ask for fewer of them." if smallest is None else _large(budget, smallest)


def _missed(budget: Budget, missed: Sequence[Finalist]) -> str:
    nearest = min(missed, key=lambda each: budget.excess(each.measured))
    return (
        f"None of {len(missed)} candidates that were measured keeps the budget ({budget}). The nearest, candidate "
        f"{nearest.number}, is {nearest.measured}. Ask for a little less."
    )


def _diverged(finalists: Sequence[Finalist]) -> str:
    numbers = ", ".join(str(each.number) for each in finalists)
    return f"Brief training of every finalist diverged (candidates: {numbers}). Give a lower `learning_rate`."


def _unbuilt(tried: Sequence[Tried]) -> str:
    first = tried[0]
    return f"None of {len(tried)} candidates could be built and evaluated; candidate {first.number}: {first.fault}"


def _large(budget: Budget, smallest: Candidate) -> str:
    return (
        f"No model keeps the budget ({budget}). The smallest that this one can become is about {smallest.predicted}. "
        "Ask for less."
    )
