"""From targets and scores to a plan.

A target fixes how many channels of each irrep each *group* keeps (a group is one space, or several that must keep
equally many). Scores then say which. Nothing is removed that a target did not ask for.
"""

from __future__ import annotations

from collections.abc import Sequence

from equiprune.blocks import BlockMask, FeatureSpace, Irrep, PruningPlan
from equiprune.errors import PlanError, TargetError
from equiprune.potentials.potential import Potential
from equiprune.pruning.counts import Counts, PruningProblem, elementwise_min, group_of, placeholder_plan, rounded
from equiprune.pruning.importance import ImportanceScores, required
from equiprune.pruning.targets import Draft, Target


def allocate(
    potential: Potential,
    targets: Sequence[Target],
    scores: ImportanceScores | None = None,
    *,
    round_to: int = 1,
    heterogeneous: bool = False,
    assembled: bool = False,
) -> PruningPlan:
    """The plan that reaches all targets at once, keeping the best-scored blocks.

    Args:
        potential: the model to prune.
        targets: each only removes; together they must leave a model that can be built.
        scores: needed where a target leaves a choice of channels.
        round_to: hidden multiplicities become multiples of this (accelerated kernels want 16 or 32); an irrep that
            would keep less than half of it is dropped. Lossless pruning rounds up.
        heterogeneous: allow different numbers of channels where upstream's own constructor has one (in MACE per
            interaction and l); the adapter then assembles the model.
        assembled: allow other models that the constructor cannot build; heterogeneous ones always are.

    Raises:
        TargetError: impossible, contradictory, or in need of scores that were not given.
        PlanError: scores or plan of another model.
    """
    model = PruningProblem(potential.adapter, potential.architecture, potential.spaces, heterogeneous)
    if scores is not None:
        scores.check(model.spaces)
    counts, explicit = asked_for(model, targets)
    counts = rounded(model, counts, round_to, explicit) if round_to > 1 else counts
    any_model = assembled or heterogeneous or model.architecture.assembled or any(t.any_model for t in targets)
    check_possible(model, placeholder_plan(model.spaces, counts, explicit), assembled=any_model)
    for target in targets:
        counts = target.spent(Draft(model, counts, explicit, scores, round_to))
    plan = ranked_plan(model.spaces, counts, scores, explicit)
    for target in targets:
        plan = target.finished(potential, plan, round_to)
    plan.check(model.spaces)
    return plan


def asked_for(model: PruningProblem, targets: Sequence[Target]) -> tuple[Counts, PruningPlan]:
    """Counts that all targets allow, and what they keep by name."""
    counts, explicit = model.full(), PruningPlan.nothing()
    for target in targets:
        counts = elementwise_min(counts, target.counts(model))
        explicit = explicit & target.keeps(model)
    for target in targets:
        target.check(model, explicit)
    for space in model.spaces:
        counts = elementwise_min(
            counts, {(group_of(space), ir): len(explicit.mask(space).of(ir)) for _, ir in space.irreps}
        )
    return counts, explicit


def check_possible(model: PruningProblem, plan: PruningPlan, *, assembled: bool) -> None:
    """Raise `TargetError` unless the targets leave a model, and one that upstream builds unless any will do."""
    try:
        plan.check(model.spaces)
        left = model.adapter.shrink(model.architecture, plan)
    except PlanError as error:
        raise TargetError(f"These targets leave no model: {error}") from error
    if left.assembled and not assembled:
        raise TargetError(
            f"These targets leave a model that {model.adapter.name}'s own constructor cannot build: "
            f"{left.why_not_stock}. Change them, or add `heterogeneous` to have it assembled from upstream's blocks; "
            "it then runs in the calculator, but not in tools that rebuild a model."
        )


def ranked_plan(
    spaces: Sequence[FeatureSpace], counts: Counts, scores: ImportanceScores | None, explicit: PruningPlan
) -> PruningPlan:
    """Keep the best ``counts`` channels of each irrep of each space, of those that ``explicit`` keeps and in its order.

    Raises:
        TargetError: some but not all channels are to be kept and there are no scores to choose by.
    """
    masks = {}
    for space in spaces:
        left = [ir for _, ir in space.irreps if counts[group_of(space), ir]]
        kept = {ir: _best(space, ir, counts[group_of(space), ir], left, scores, explicit) for ir in left}
        masks[space.name] = BlockMask.keep(space.irreps, kept)
    return PruningPlan(masks)


def _best(
    space: FeatureSpace,
    ir: Irrep,
    count: int,
    left: Sequence[Irrep],
    scores: ImportanceScores | None,
    explicit: PruningPlan,
) -> list[int]:
    """The best channels of one irrep; where all irreps share them, by what matters for those that are left."""
    available = explicit.mask(space).of(ir)
    if count == len(available) or not space.leaves_a_choice:
        return list(available[:count])
    values = required(scores, f"{count} of {len(available)} channels of {ir} in {space.name}").mean.get(space.name)
    if values is None:
        raise TargetError(f"The scores say nothing of {space.name}; calibrate this model again.")
    deciding = space.ranked({other: values[other] for other in left})[ir]
    best = set(sorted(sorted(available), key=lambda c: -deciding[c])[:count])
    return [channel for channel in available if channel in best]
