"""Lineage of a model: the recorded steps from its parent as values, and the same steps done again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from equiprune.adapters import Checkpoint
from equiprune.adapters import history as recorded
from equiprune.adapters.growth import Growth
from equiprune.adapters.history import Grown, Pruned, step_from_json
from equiprune.blocks import PruningPlan
from equiprune.errors import PlanError
from equiprune.potentials.potential import Potential
from equiprune.pruning.growing import grow_checkpoint
from equiprune.pruning.slicing import prune_checkpoint

Step = PruningPlan | Growth
"""What was done to a model; everything else in a history is training."""


@dataclass(frozen=True)
class Lineage:
    """Way from a parent to a child.

    Attributes:
        steps: that promise something, up to the first one that does not, and the precision each was rounded to.
        afterwards: names of the steps from that one on.
    """

    steps: tuple[tuple[Step, torch.dtype], ...]
    afterwards: tuple[str, ...]


def lineage(child: Potential, parent: Potential) -> Lineage:
    """Way from a parent to a child.

    Raises:
        PlanError: the history does not start at this parent, or is damaged.
    """
    history = child.checkpoint.history
    start = len(parent.checkpoint.history)
    if len(history) <= start or history[start].get("parent_sha256") != parent.checkpoint.sha256:
        raise PlanError(
            f"'{child.checkpoint.source}' was not pruned from '{parent.checkpoint.source}' (step {start + 1} of its "
            f"history does not start at sha256 {parent.checkpoint.sha256[:12] or 'unknown'}...). "
            "Give the file it was pruned from."
        )
    try:
        names = [record["step"] for record in history[start:]]
        first = next((i for i, name in enumerate(names) if name not in (Pruned.name, Grown.name)), len(names))
        promised = history[start : start + first]
        return Lineage(tuple(_promise(step_from_json(record)) for record in promised), tuple(names[first:]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PlanError(
            f"The history of '{child.checkpoint.source}' is damaged ({type(error).__name__}: {error}), so there is "
            "nothing to compare with its parent. Certify it without `parent`, or prune again."
        ) from error


def _promise(step: recorded.Step) -> tuple[Step, torch.dtype]:
    match step:
        case Pruned(plan, dtype):
            return plan, dtype
        case Grown(growth, dtype):
            return growth, dtype
    raise ValueError(f"{step.name} is no promise")


def merged(steps: Iterable[Step]) -> list[Step]:
    """Plans that follow each other as one."""
    joined: list[Step] = []
    for step in steps:
        if joined and isinstance(step, PruningPlan) and isinstance(joined[-1], PruningPlan):
            joined[-1] = joined[-1].then(step)
        else:
            joined.append(step)
    return joined


def repeated(parent: Potential, steps: Iterable[tuple[Step, torch.dtype]]) -> Checkpoint:
    """The parent after the steps, each rounded to its own precision."""
    made = parent.checkpoint
    for step, dtype in steps:
        if isinstance(step, PruningPlan):
            made = prune_checkpoint(parent.adapter, made, step, dtype)
        else:
            made = grow_checkpoint(parent.adapter, made, step, dtype)
    return made
