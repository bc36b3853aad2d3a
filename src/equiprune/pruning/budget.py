"""Spending a budget of parameters where importance says."""

from __future__ import annotations

from equiprune.blocks import PruningPlan
from equiprune.errors import TargetError
from equiprune.pruning.cost import count_parameters, parameters
from equiprune.pruning.counts import Counts, PruningProblem, placeholder_plan
from equiprune.pruning.importance import ImportanceScores
from equiprune.pruning.widths import ladder, largest


def within_budget(
    model: PruningProblem,
    counts: Counts,
    explicit: PruningPlan,
    scores: ImportanceScores,
    fraction: float,
    floor: float,
    round_to: int,
) -> Counts:
    """The largest level of `ladder` whose model fits, by exact parameter counts.

    Args:
        model: what is pruned.
        counts: channels that other targets leave.
        explicit: what is kept by name.
        scores: importance of every block.
        fraction: of the trainable parameters that may be left.
        floor: fraction of the channels that every irrep keeps.
        round_to: channels go in steps of this.

    Raises:
        TargetError: no level fits.
    """
    total = count_parameters(model.adapter, model.architecture).trainable
    budget = fraction * total

    def cost(candidate: Counts) -> int:
        plan = placeholder_plan(model.spaces, candidate, explicit)
        return parameters(model.adapter, model.architecture, plan).trainable

    level = ladder(model, counts, scores, explicit, cost, round_to, floor)
    smallest = cost(level(0.0))
    if not 0 < fraction <= 1 or smallest > budget:
        raise TargetError(
            f"`parameters` {fraction} is not possible: with the other targets and `floor` {floor}, this "
            f"model can keep {smallest / total:.3f} to 1 of its {total:,} trainable parameters."
        )
    return largest(level, lambda candidate: cost(candidate) <= budget)
