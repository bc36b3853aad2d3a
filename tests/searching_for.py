"""Candidates that a search makes of an architecture, before anything is built, for the tests of adapters."""

import equiprune as ep
from equiprune.pruning.counts import PruningProblem
from equiprune.searching.budget import Budget, Cost
from equiprune.searching.candidates import Asked, Candidate
from equiprune.searching.cost_model import CostModel
from equiprune.searching.shapes import Shape, shapes
from equiprune.searching.work import work


def candidates(parent: ep.Potential, fraction: float, *, heterogeneous: bool = False) -> dict[Shape, list[Candidate]]:
    """Candidates of every shape with a fraction of the parameters; each is checked against the budget and the rules."""
    model = PruningProblem(parent.adapter, parent.architecture, parent.spaces, heterogeneous)
    costs = CostModel(parent.adapter, parent.architecture, ())

    def counted(architecture: object) -> Cost:
        share = costs.parameters(architecture)
        return Cost(share, share, share)

    scores = ep.data_free_scores(parent, ep.Magnitude())
    asked, found = Asked(model, (), scores, Budget(parameters=fraction), counted), {}
    for shape in shapes(model):
        made = [asked.even(shape), asked.by_importance(shape)]
        found[shape] = [each for each in made if each is not None]
        for each in found[shape]:
            check(parent, each, fraction, heterogeneous=heterogeneous)
    return found


def check(parent: ep.Potential, found: Candidate, fraction: float, *, heterogeneous: bool) -> None:
    """A plan that leaves a model which upstream's constructor builds, small enough, with no more work of any kind."""
    found.plan.check(parent.spaces)
    smaller = parent.adapter.shrink(parent.architecture, found.plan)
    assert heterogeneous or smaller.assembled == parent.architecture.assembled
    assert found.predicted.parameters <= fraction
    before, after = work(parent.adapter, parent.architecture), work(parent.adapter, smaller)
    grown = {kind: (before.get(kind, 0), amount) for kind, amount in after.items() if amount > before.get(kind, 0)}
    assert grown == {}
