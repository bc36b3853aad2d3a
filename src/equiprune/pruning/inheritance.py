"""Inheritance: what was cut between a model and one that was made from it."""

from __future__ import annotations

from functools import reduce

from equiprune.adapters.history import Grown, Initialised, Pruned
from equiprune.blocks import Irrep, PruningPlan
from equiprune.errors import TargetError
from equiprune.potentials.potential import Potential


def plan_between(parent: Potential, child: Potential, otherwise: str = "") -> PruningPlan:
    """All that was cut between two models of one history, as one plan; what was trained in between does not matter.

    Args:
        parent: the model that was pruned.
        child: what was made of it.
        otherwise: what else can be done than to give the right parent; the end of the error's last sentence.

    Raises:
        TargetError: the child was not pruned from this model, has grown since, or has weights that were drawn anew.
    """
    before, after = parent.checkpoint, child.checkpoint
    own = [dict(record) for record in after.history[len(before.history) :]]
    same = [dict(record) for record in after.history[: len(before.history)]] == [dict(r) for r in before.history]
    same &= child.adapter.name == parent.adapter.name and bool(own) and own[0]["parent_sha256"] == before.sha256
    alternative = f", or {otherwise}" if otherwise else ""
    if not same:
        pruned = [record["parent"] for record in after.history if record["step"] == Pruned.name]
        of = f"it comes from '{pruned[0]}'" if pruned else "it was not pruned at all"
        raise TargetError(
            f"'{before.source}' is not the model that '{after.source}' was pruned from ({of}), so its features are not "
            f"those that this one kept. Give the model it was pruned from{alternative}."
        )
    if any(record["step"] == Initialised.name for record in own):
        raise TargetError(
            f"The weights of '{after.source}' were drawn anew, so its features have nothing to do with those of its "
            f"parent. Give a model that kept its parent's weights{alternative}."
        )
    if any(record["step"] == Grown.name for record in own):
        raise TargetError(
            f"'{after.source}' has grown since it was pruned, so its features are not all its parent's. Give the model "
            f"before it grew{alternative}."
        )
    plans = [PruningPlan.from_json(record["plan"]) for record in own if record["step"] == Pruned.name]
    return reduce(PruningPlan.then, plans, PruningPlan.nothing())


def head_of(parent: Potential, child: Potential, plan: PruningPlan) -> str | None:
    """The head of the parent that the child evaluates; where only one was kept, the child has none to name."""
    heads = parent.architecture.heads
    if child.head is not None or not heads:
        return child.head
    kept = plan.kept("heads", Irrep(0, 1), len(heads))
    return heads[kept[0]] if len(kept) == 1 else parent.head
