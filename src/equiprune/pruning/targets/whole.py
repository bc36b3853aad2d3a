"""Targets of a whole model: a budget, nothing that matters, or a plan made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from equiprune.blocks import PruningPlan
from equiprune.files.settings import kind
from equiprune.potentials.potential import Potential
from equiprune.pruning.budget import within_budget
from equiprune.pruning.counts import Counts, PruningProblem
from equiprune.pruning.dead_blocks import lossless_plan
from equiprune.pruning.importance import required
from equiprune.pruning.slicing import prune_checkpoint
from equiprune.pruning.targets.target import Draft, Target


@kind("parameters", "Parameters")
@dataclass(frozen=True)
class Parameters(Target):
    """At most this fraction of the trainable parameters, spent where the scores say.

    Attributes:
        fraction: of the trainable parameters, above 0 and up to 1.
        floor: every irrep of every hidden space keeps at least this fraction of its channels. Scores of an unretrained
            model favour scalars so much that l > 0 would all but vanish, and with it what retraining could build on.
    """

    fraction: float
    floor: float = 0.25

    def spent(self, draft: Draft) -> Counts:
        scores = required(draft.scores, "`parameters`")
        model, counts, explicit = draft.model, draft.counts, draft.explicit
        return within_budget(model, counts, explicit, scores, self.fraction, self.floor, draft.round_to)


@kind("lossless", "Lossless")
@dataclass(frozen=True)
class Lossless(Target):
    """Only what changes nothing: blocks whose contribution is exactly zero."""

    def finished(self, potential: Potential, plan: PruningPlan, round_to: int) -> PruningPlan:
        left = prune_checkpoint(potential.adapter, potential.checkpoint, plan, torch.float64)
        return plan.then(lossless_plan(potential.adapter, left, round_to))


@kind(
    "exactly",
    "Exactly",
    write=lambda target: {"plan": target.plan.to_json()},
    read=lambda given: FromPlan(PruningPlan.from_json(given["plan"])),
)
@dataclass(frozen=True)
class FromPlan(Target):
    """A plan made elsewhere."""

    plan: PruningPlan

    any_model = True

    def keeps(self, model: PruningProblem) -> PruningPlan:
        self.plan.check(model.spaces)
        return self.plan
