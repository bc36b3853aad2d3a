"""Rounds of a search: many candidates repaired, the best few measured and trained briefly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equiprune.adapters.history import Repaired
from equiprune.blocks import PruningPlan
from equiprune.errors import EquipruneError
from equiprune.evaluation.accuracy import NotFiniteError
from equiprune.files.settings import to_json
from equiprune.potentials.potential import Potential
from equiprune.pruning.slicing import prune
from equiprune.searching.budget import Cost
from equiprune.searching.candidates import Asked, Candidate
from equiprune.searching.cost_model import BUSY, CostModel, measured
from equiprune.searching.journal import Finalist, Journal, LeftOut, Tried
from equiprune.searching.material import Effort, Material
from equiprune.searching.process_memory import MOST, peak_of
from equiprune.searching.shapes import Shape
from equiprune.training.divergence import DivergedError

_CHANGED = 1 / 2
"""Share of the candidates that are changed from the best so far."""
_WASTEFUL = 0.6
"""Cost over the budget below which a shape loses more than it has to."""
_PARENTS = 3
"""Number of the best candidates that others are changed from."""
_OTHER_SHAPE = 0.2
"""Probability that a changed candidate has another shape as well."""
_TRIES = 8
"""Changes that are drawn until one keeps the budget and is new."""
_FITS = (0.95, 1.0)
"""Measured cost over the budget of what is taken as it is."""
_EXPLODED = 1.5
"""Errors of forces after brief training over those before it, above which training did harm."""
_SLACK = 0.02
"""Excess over the budget that a second measurement may have."""
_FAR = 1.5
"""Predicted cost over the budget from which on the memory of the process is not measured: it is too much anyway."""
_SIZES = 5
"""Sizes that a finalist is measured in until one keeps the budget."""
_DIVERGED = 3
"""Finalists that diverge, where none was trained, after which it is no fault of theirs."""
_TINY = 1e-6


Say = Callable[[str], None]


@dataclass(frozen=True)
class Round:
    """One budget: its candidates, and the best of them.

    Attributes:
        asked: the model, constraints, budget, costs.
        shapes: what models may lose besides channels.
        material: what candidates are made and judged with.
        effort: how many of everything.
        first: the number of the first candidate.
        costs: the cost model.
    """

    asked: Asked
    shapes: Sequence[Shape]
    material: Material
    effort: Effort
    first: int
    costs: CostModel

    def tried(self, journal: Journal, keep: Callable[[Journal], None], say: Say) -> Journal:
        """The journal with all candidates of this round."""
        for number in range(self.first, self.first + self.effort.candidates):
            before = [each for each in journal.tried if each.number < number]
            if any(each.number == number for each in journal.tried):
                continue
            candidate = self._proposed(number, before)
            if candidate is None:
                break
            found = self._judged(number, candidate)
            journal = journal.with_tried(found)
            keep(journal)
            say(_line(found))
        return journal

    def decided(self, journal: Journal, keep: Callable[[Journal], None], say: Say) -> Journal:
        """The journal with finalists of which the best keeps the budget: more of them where all miss it."""
        for number in range(self.effort.finalists, max(self.effort.finalists, self.effort.candidates) + 1):
            journal = self.finalists(journal, number, keep, say)
            journal = self.confirmed(journal, keep, say)
            if self.best(journal) is not None:
                break
        return journal

    def finalists(self, journal: Journal, number: int, keep: Callable[[Journal], None], say: Say) -> Journal:
        """The journal with so many of the best candidates of this round measured and trained briefly."""
        done = 0
        for each in sorted(self._good(journal), key=lambda each: each.forces):
            if done == number or self._always_diverges(journal):
                break
            found = journal.finalist(each.number) or self._sized(each, self._candidate(each))
            if found.errors is None and found.left_out is None:
                journal = self._trained(journal, each, found, keep, say)
                found = journal.finalists[-1]
            elif found not in journal.finalists:
                journal = journal.with_finalist(found)
                keep(journal)
                say(f"Candidate {each.number}: no size of it was measured within the budget.{_varied(found)}")
            done += found.left_out is None
        return journal

    def _always_diverges(self, journal: Journal) -> bool:
        mine = self._finalists(journal)
        diverged = sum(each.left_out is LeftOut.DIVERGED for each in mine)
        return diverged >= _DIVERGED and all(each.errors is None for each in mine)

    def confirmed(self, journal: Journal, keep: Callable[[Journal], None], say: Say) -> Journal:
        """The journal in which the best finalist was measured again, in more turns, and keeps the budget all the same.

        One that does not, also where that was measured later on the finished model (`Journal.missed`), is made smaller
        and trained again, or is no longer the best.
        """
        while (best := self._best(journal, self._may_keep_budget)) is not None and not best.confirmed:
            again = replace(best, confirmed=True)
            if self._keeps_budget(best):
                cost, spread = self._measured(best.plan, 2 * self.material.repeats)
                again = replace(again, measured=cost, spread=spread)
            journal = journal.with_finalist(again)
            keep(journal)
            kept = self._keeps_budget(again)
            outcome = "" if kept else ", which misses the budget"
            say(f"Candidate {best.number} is {again.measured}, measured again{outcome}.{_varied(again)}")
            if kept:
                break
            tried = next(each for each in journal.tried if each.number == best.number)
            if smaller := self._smaller(tried, again):
                journal = self._trained(journal, tried, smaller, keep, say)
        return journal

    def _smaller(self, tried: Tried, missed: Finalist) -> Finalist | None:
        """The finalist in a size that keeps the budget in as many turns; None if none of a few does."""
        candidate: Candidate | None = self.asked.restored(tried.made, self._shape(tried), missed.plan)
        found = missed
        for _ in range(_SIZES):
            candidate = candidate and self._resized(candidate, self.asked.budget.excess(found.measured))
            if candidate is None:
                break
            cost, spread = self._measured(candidate.plan, 2 * self.material.repeats)
            found = Finalist(tried.number, candidate.plan, cost, spread, confirmed=True)
            if self._keeps_budget(found):
                return found
        return None

    def _trained(
        self, journal: Journal, tried: Tried, found: Finalist, keep: Callable[[Journal], None], say: Say
    ) -> Journal:
        if found not in journal.finalists:
            journal = journal.with_finalist(found)
            keep(journal)  # or what goes on with the training would measure, and train, another size
        journal = journal.with_finalist(self._after_training(tried, found))
        keep(journal)
        say(_finished(tried, journal.finalists[-1]))
        return journal

    def best(self, journal: Journal) -> Finalist | None:
        """The finalist of this round that keeps the budget with the smallest error of forces."""
        return self._best(journal, self._keeps_budget)

    def _best(self, journal: Journal, condition: Callable[[Finalist], bool]) -> Finalist | None:
        trained = [each for each in self._finalists(journal) if each.errors is not None]
        return min(filter(condition, trained), key=lambda each: each.forces, default=None)

    def _finalists(self, journal: Journal) -> list[Finalist]:
        return [each for each in journal.finalists if self._is_mine(each.number)]

    def _may_keep_budget(self, found: Finalist) -> bool:
        """Not confirmed yet, or known to keep the budget."""
        return not found.confirmed or self._keeps_budget(found)

    def _keeps_budget(self, found: Finalist) -> bool:
        return self.asked.budget.excess(found.measured) <= 1 + _SLACK

    def _is_mine(self, number: int) -> bool:
        return self.first <= number < self.first + self.effort.candidates

    def _good(self, journal: Journal) -> list[Tried]:
        return [each for each in journal.tried if self._is_mine(each.number) and each.errors is not None]

    # Proposals.

    def _proposed(self, number: int, before: Sequence[Tried]) -> Candidate | None:
        """The next candidate: every shape first, then changes of the best so far; None where there is nothing new.

        The first shape is tried with even widths and with those that importance asks for; the others with what was
        better there. Shapes that lose more than the budget asks for are left out.
        """
        mine = [each for each in before if self._is_mine(each.number)]
        seen = {_key(each.plan) for each in mine}
        systematic = max(2, round(self.effort.candidates * (1 - _CHANGED)))
        if number - self.first < systematic:
            fresh = (c for c in self._systematic(mine) if c is not None and _key(c.plan) not in seen)
            worth = (c for c in fresh if not self._wasteful(c))
            if found := next(worth if mine else fresh, None):
                return found
        good = sorted((each for each in mine if each.errors), key=lambda each: each.forces)
        best = [each for each in good if not self.asked.is_full(self._candidate(each))][:_PARENTS]
        random = np.random.default_rng([self.material.seed, number])
        for _ in range(_TRIES if best else 0):
            start = best[int(random.integers(len(best)))]
            changed = self._changed(start, random)
            if changed is not None and _key(changed.plan) not in seen and not self._wasteful(changed):
                return changed
        return None

    def _wasteful(self, candidate: Candidate) -> bool:
        return self.asked.budget.excess(candidate.predicted) < _WASTEFUL

    def _systematic(self, mine: Sequence[Tried]) -> Iterator[Candidate | None]:
        for shape in self.shapes[:1]:
            yield self.asked.even(shape)
            yield self.asked.by_importance(shape)
        forces = {each.made: each.forces for each in reversed(mine)}
        by_hand = forces.get("even widths", np.inf) <= forces.get("by importance", np.inf)
        for shape in self.shapes[1:]:
            yield self.asked.even(shape) if by_hand else self.asked.by_importance(shape)
        for shape in self.shapes[1:]:
            yield self.asked.by_importance(shape) if by_hand else self.asked.even(shape)

    def _changed(self, start: Tried, random: np.random.Generator) -> Candidate | None:
        shape = self._shape(start)
        if random.random() < _OTHER_SHAPE:
            shape = self.shapes[int(random.integers(len(self.shapes)))]
        return self.asked.changed(self._candidate(start), start.number, shape, random)

    # Building and measuring.

    def _judged(self, number: int, candidate: Candidate) -> Tried:
        """The candidate with its errors, or with the reason why it has none."""
        found = Tried(number, candidate.made, _words(candidate.shape), candidate.plan, candidate.predicted, None)
        try:
            child = self.material.built(candidate)
            return replace(found, errors=self.material.errors(child), repaired=_is_repaired(child))
        except EquipruneError as error:
            return replace(found, fault=str(error))

    def _candidate(self, tried: Tried) -> Candidate:
        return self.asked.restored(tried.made, self._shape(tried), tried.plan)

    def _shape(self, tried: Tried) -> Shape:
        return next((shape for shape in self.shapes if _words(shape) == tried.shape), ())

    def _sized(self, tried: Tried, candidate: Candidate) -> Finalist:
        """The candidate in a size that keeps the budget as measured, as large as that allows.

        Where there is none, it is left out in the size that came nearest.
        """
        measured: list[Finalist] = []
        resized: Candidate | None = candidate
        while resized is not None and len(measured) < _SIZES:
            cost, spread = self._measured(resized.plan, self.material.repeats)
            measured.append(Finalist(tried.number, resized.plan, cost, spread))
            excess = self.asked.budget.excess(cost)
            resized = None if _FITS[0] <= excess <= _FITS[1] else self._resized(resized, excess)
        fitting = [each for each in measured if self.asked.budget.excess(each.measured) <= _FITS[1]]
        if fitting:
            return max(fitting, key=lambda each: each.measured.time)
        nearest = min(measured, key=lambda each: self.asked.budget.excess(each.measured))
        return replace(nearest, left_out=LeftOut.TOO_COSTLY)

    def _resized(self, candidate: Candidate, excess: float) -> Candidate | None:
        """The candidate in another size, because it costs so much of the budget as measured; None if there is none."""
        predicted = self.asked.budget.excess(candidate.predicted)
        resized = self.asked.again(candidate, predicted / max(excess, _TINY) * sum(_FITS) / 2)
        return None if resized is None or _key(resized.plan) == _key(candidate.plan) else resized

    def _measured(self, plan: PruningPlan, repeats: int) -> tuple[Cost, float]:
        """Cost of a model as it is, and the spread of its timings."""
        child = prune(self.material.parent, plan)
        found = measured(self.material.parent, child, self.material.conditions, repeats)
        cost, budget = self.costs.of(found, child.architecture), self.asked.budget
        if budget.atoms is None or budget.memory is None or budget.excess(cost) > _FAR:
            return cost, found.spread
        conditions, most = self.material.conditions, MOST * budget.memory
        peak = peak_of(child, conditions, conditions.copies_of(budget.atoms), most)
        known = most if peak is None else peak  # at least so much, which is too much
        return replace(cost, bytes_per_atom=known / conditions.at_least(budget.atoms)), found.spread

    def _after_training(self, tried: Tried, found: Finalist) -> Finalist:
        """The finalist with its errors after brief training, or left out because that diverged."""
        candidate = self.asked.restored(tried.made, self._shape(tried), found.plan)
        try:
            trained = self.material.trained(self.material.built(candidate), tried.number)
            return replace(found, errors=self.material.errors(trained))
        except (DivergedError, NotFiniteError):
            return replace(found, left_out=LeftOut.DIVERGED)


def _is_repaired(child: Potential) -> bool:
    return bool(child.checkpoint.history[-1]["step"] == Repaired.name)


def _key(plan: PruningPlan) -> str:
    """Numbers of channels, which say whether a model was tried before."""
    return repr(sorted((name, str(mask.kept_irreps)) for name, mask in plan.masks.items()))


def _words(shape: Shape) -> str:
    """A shape in words: targets as flags of 'equiprune prune', without dashes."""
    return ", ".join(" ".join(map(_plain, to_json(target).values())) for target in shape) or "widths only"


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _finished(tried: Tried, found: Finalist) -> str:
    start = f"Candidate {found.number}: {found.measured.speed:.2f} times as fast, measured"
    if found.left_out is LeftOut.DIVERGED:
        return f"{start}; brief training diverged, so it is left out. Try a lower `learning_rate`.{_varied(found)}"
    worse = (
        f" They were {tried.forces:.1f} before it: try a lower `learning_rate`."
        if found.forces > _EXPLODED * tried.forces
        else ""
    )
    return f"{start}; forces {found.forces:.1f} meV/Angstrom after brief training.{worse}{_varied(found)}"


def _varied(found: Finalist) -> str:
    """A remark on timings that vary much although more turns were taken; empty where they do not."""
    return f" Its timings vary by {100 * found.spread:.0f} %: the machine is busy." if found.spread > BUSY else ""


def _line(found: Tried) -> str:
    what = (
        f"Candidate {found.number} ({found.made}; {found.shape}): {found.predicted.speed:.2f} times as fast, predicted"
    )
    if found.errors is None:
        return f"{what}; it could not be built or evaluated: {found.fault}"
    how = "after repair" if found.repaired else "unrepaired: that is not possible, or makes them no better"
    return f"{what}; forces {found.forces:.1f} meV/Angstrom {how}."
