"""Search: from a budget to a plan.

Costs are measured first, on models with random widths, so that the size of any candidate can be chosen by prediction.
Candidates of different shapes and widths that all keep the budget are built, repaired in closed form and compared on
structures that were held out; then the widths of the best are changed at random. The best few are measured beside the
parent, resized until they keep the budget as measured, and trained briefly: the one with the smallest error of forces
wins. Importance says which channels of an irrep stay, but how many do is decided by models that were built, since the
errors of interactions do not add up.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from ase import Atoms

from equiprune.adapters.precision import dtype_name
from equiprune.errors import StructureError, TargetError
from equiprune.evaluation.engines import OWN, EvaluationEngine
from equiprune.files.atomic import make_folder
from equiprune.files.settings import to_json
from equiprune.potentials.potential import Potential
from equiprune.pruning.allocation import asked_for
from equiprune.pruning.calibration import calibrate
from equiprune.pruning.counts import PruningProblem
from equiprune.pruning.importance import ImportanceScores
from equiprune.pruning.slicing import prune
from equiprune.pruning.targets import Target
from equiprune.searching.budget import Budget
from equiprune.searching.candidates import Asked, Candidate, drawn
from equiprune.searching.cost_model import BUSY, Conditions, CostModel, Measurement, measured
from equiprune.searching.cost_table import CostTable, machine_of
from equiprune.searching.found import Beside, Found
from equiprune.searching.journal import Finalist, Journal, journal_of
from equiprune.searching.material import Effort, Material
from equiprune.searching.process_memory import check_memory, nearest, overhead
from equiprune.searching.refusal import refusal
from equiprune.searching.rounds import Round
from equiprune.searching.shapes import Shape, shapes
from equiprune.searching.work import work
from equiprune.structures.checks import check_structures
from equiprune.structures.labels import labels_of
from equiprune.structures.sampling import held_out_frames, spread
from equiprune.structures.sequences import Origin
from equiprune.training.arguments import UNWATCHED, Watchers
from equiprune.training.recipe import PRESETS, Recipe
from equiprune.training.scan import digest

_REPEATS, _FINAL_REPEATS = 2, 5
"""Timed turns of a model that the cost model is fitted to, and of one that must keep the budget."""
_HELD_OUT = 0.2
"""Share of the structures that errors are of."""
_LOOKED_AT = 200
"""Most structures that importance is the mean over, and of which the largest is timed."""


def _usual_recipe() -> Recipe:
    preset = PRESETS["sevennet"]
    return Recipe(preset.objective, preset.optimisation)


@dataclass(frozen=True)
class Constraints:
    """Conditions that every candidate keeps besides the budget.

    Attributes:
        targets: elements, heads, or whatever else is known in advance.
        keep_lmax: hidden features and harmonics keep every l up to this, wherever they have it.
        round_to: hidden multiplicities are multiples of this.
        heterogeneous: also models that upstream's constructor cannot build.
    """

    targets: tuple[Target, ...] = ()
    keep_lmax: int = 0
    round_to: int = 1
    heterogeneous: bool = False


@dataclass(frozen=True)
class SearchData:
    """Labelled structures of a search.

    Attributes:
        structures: at least 10 with labels of forces, usually the parent's own (`equiprune.label`); a fifth is held
            out.
        ids: the number of the structure that each one is of, so that copies are held out together; shape (structures,).
        sha256: of their file, if there is one: another file is another search.
    """

    structures: Sequence[Atoms]
    ids: Sequence[int] | np.ndarray | None = None
    sha256: str = ""

    def split(self, seed: int) -> tuple[list[Atoms], list[Atoms]]:
        """Structures to repair and train with, and those that errors are of."""
        ids = np.arange(len(self.structures)) if self.ids is None else np.asarray(self.ids)
        away = set(held_out_frames(ids, _HELD_OUT, seed).tolist())
        training = [atoms for i, atoms in enumerate(self.structures) if i not in away]
        return training, [self.structures[i] for i in sorted(away)]


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search.

    Attributes:
        constraints: what every candidate keeps besides the budget.
        effort: how many models are measured, tried and trained.
        recipe: of brief training; its epochs are not looked at.
        timed_atoms: models are timed on at least so many, copies of the largest structure.
        seed: of everything that is drawn.
        engine: code whose speed and memory the budget is about.
    """

    constraints: Constraints = field(default_factory=Constraints)
    effort: Effort = field(default_factory=Effort)
    recipe: Recipe = field(default_factory=_usual_recipe)
    timed_atoms: int = 64
    seed: int = 0
    engine: EvaluationEngine = OWN


USUAL = SearchSettings()
"""Nothing said."""


def search(
    parent: Potential,
    data: SearchData | Sequence[Atoms],
    budget: Budget,
    folder: str | Path,
    *,
    scores: ImportanceScores | None = None,
    settings: SearchSettings = USUAL,
    beside: Mapping[str, Potential] = MappingProxyType({}),
    watchers: Watchers = UNWATCHED,
) -> Found:
    """The plan of the best model that keeps a budget.

    Args:
        parent: the model to make smaller; timed on its device in its precision.
        data: labelled structures.
        budget: what the model may cost.
        folder: new, or of an interrupted search for the same on the same machine, which then goes on and ends in the
            same plan.
        scores: importance; Taylor on the structures unless given.
        settings: constraints, effort, recipe.
        beside: other models by name, such as the official small one, to measure as they are and to show in the picture.
        watchers: told of every model that was measured, tried or trained, and of remarks.

    Raises:
        TargetError: no model of this architecture keeps the budget; the message says what the smallest one reaches. Or
            the memory that is limited cannot be measured here.
        StructureError: too few structures, or no labels.
        OutputError: the folder is of another search or of another machine, or cannot be written.
    """
    data = data if isinstance(data, SearchData) else SearchData(data)
    _check(data.structures)
    check_memory(budget, parent)
    kept = settings.constraints
    model = PruningProblem(parent.adapter, parent.architecture, parent.spaces, kept.heterogeneous)
    check_structures(data.structures, _elements(model, kept.targets), inputs=parent.architecture.global_inputs)
    for other in beside.values():
        check_structures(data.structures, other.elements, inputs=other.architecture.global_inputs)
    make_folder(Path(folder), "the folder of a search")
    path = journal_of(Path(folder))
    journal = Journal.begun(path, _described(parent, data, budget, scores, settings))
    training, held_out = data.split(settings.seed)
    timed = Conditions.of(data.structures, settings.timed_atoms, settings.engine)
    material = Material(
        parent, training, held_out, timed, _FINAL_REPEATS, settings.recipe, settings.effort, Path(folder), settings.seed
    )
    scores = scores or calibrate(parent, spread(training, _LOOKED_AT))
    found = _Search(model, kept, scores, budget, settings.effort, material, path, watchers).found(journal)
    return replace(found, beside=tuple(_beside(material, {"parent": parent, **beside})))


def _beside(material: Material, models: Mapping[str, Potential]) -> Iterator[Beside]:
    """Models as they are, beside the parent, which is the first."""
    for name, model in models.items():
        itself = model is material.parent
        time = 1.0 if itself else measured(material.parent, model, material.conditions, material.repeats).time
        yield Beside(name, 1 / time, material.errors(model).forces)


def _elements(model: PruningProblem, targets: Sequence[Target]) -> frozenset[int]:
    """Elements that every candidate knows."""
    _, explicit = asked_for(model, targets)
    return frozenset(model.adapter.shrink(model.architecture, explicit).elements)


def _described(
    parent: Potential, data: SearchData, budget: Budget, scores: ImportanceScores | None, settings: SearchSettings
) -> dict[str, Any]:
    """Everything that the outcome depends on: an interrupted search goes on only for the same."""
    kept, engine = settings.constraints, settings.engine.name
    ids = () if data.ids is None else (np.asarray(data.ids),)
    values = () if scores is None else (each for by in scores.mean.values() for each in by.values())
    return {
        "machine": ", ".join(f"{key} {value}" for key, value in machine_of(parent).items()),
        "model_sha256": parent.checkpoint.sha256,
        "head": parent.head,
        "dtype": dtype_name(parent.dtype),
        "structures": len(data.structures),
        "data_sha256": data.sha256,
        "ids_sha256": digest(ids),
        "budget": to_json(budget),
        "targets": to_json(list(kept.targets)),
        "constraints": [kept.keep_lmax, kept.round_to, kept.heterogeneous],
        "effort": vars(settings.effort),
        "recipe": settings.recipe.to_json(),
        "timed_atoms": settings.timed_atoms,
        "seed": settings.seed,
        "scores": "" if scores is None else scores.criterion,
        "scores_sha256": digest(values),
        **({} if engine == OWN.name else {"engine": engine}),  # searches of before have no such key
    }


def _check(structures: Sequence[Atoms]) -> None:
    if len(structures) < 10:
        raise StructureError(
            f"{len(structures)} structures are too few for a search: a fifth is held out, and the others repair and "
            "train what is tried. Give 10 or more; 'equiprune label --copies' makes more of a few."
        )
    for i, atoms in enumerate(structures):
        if labels_of(atoms, Origin(i)).forces is None:
            raise StructureError(
                f"Structure {i} has no labels of forces, by which models are compared. 'equiprune label' adds those of "
                "the parent."
            )


@dataclass(frozen=True)
class _Search:
    """A search that knows everything it needs."""

    model: PruningProblem
    constraints: Constraints
    scores: ImportanceScores
    budget: Budget
    effort: Effort
    material: Material
    path: Path
    watchers: Watchers

    def found(self, journal: Journal) -> Found:
        journal = self._with_overhead(self._measured(journal))
        timed = self.material.conditions
        atoms = timed.at_least(self.budget.atoms or timed.total)
        costs = CostModel(self.model.adapter, self.model.architecture, journal.costs, atoms, journal.overhead or 1.0)
        error = statistics.median(costs.errors)
        self.watchers.note(f"Times are predicted to {100 * error:.0f} % (median of models left out of the fit).")
        if self.budget.max_force_error is None:
            journal, best = self._round(journal, costs, self.budget, self.effort, 0)
        else:
            journal, best = self._smallest(journal, costs, self.budget.max_force_error)
        if best is None:
            raise self._refused(self.budget, journal, costs)
        return Found(best, self.budget, journal, costs.errors, self.material.conditions)

    def _keep(self, journal: Journal) -> None:
        journal.save(self.path)
        self.watchers.progress(1)

    # Costs.

    def _measured(self, journal: Journal) -> Journal:
        """The journal with all measurements: those of before, of this machine's table, or new ones."""
        drawn_by = {"measured": self.effort.measured, "seed": self.material.seed, "kept": repr(self.constraints)}
        table = CostTable.of(self.material.parent, self.material.conditions, drawn_by)
        have = journal.costs or table.stored()
        if len(have) > len(journal.costs):
            self.watchers.note("Costs were measured before on this machine.")
        journal = replace(journal, costs=have[: self.effort.measured])
        self.watchers.progress(len(journal.costs) + journal.steps)
        while len(journal.costs) < self.effort.measured:
            journal = journal.with_cost(self._measurement(len(journal.costs)))
            self._keep(journal)
            table.store(journal.costs)
        busy = sum(each.spread > BUSY for each in journal.costs)
        if busy > len(journal.costs) / 4:
            self.watchers.note(
                f"The machine is busy: {busy} of {len(journal.costs)} timings vary by more than {100 * BUSY:.0f} %. "
                "What is chosen is measured again, in more turns."
            )
        return journal

    def _measurement(self, number: int) -> Measurement:
        """The parent first, then models with random widths."""
        parent, timed = self.material.parent, self.material.conditions
        if number == 0:
            found = measured(parent, parent, timed, 1)
            return replace(found, work=work(parent.adapter, parent.architecture), time=1.0)
        return measured(parent, self._drawn(number), timed, _REPEATS)

    def _drawn(self, number: int) -> Potential:
        """The model of a measurement: the parent first, then models with random widths."""
        if number == 0:
            return self.material.parent
        every = shapes(self.model, self.constraints.keep_lmax)
        random = np.random.default_rng([self.material.seed, number])
        return prune(self.material.parent, drawn(self.model, self.constraints.targets, every, random))

    def _with_overhead(self, journal: Journal) -> Journal:
        """The journal that knows how much more than its tensors a process takes, where memory is limited.

        It is measured on the few models that are nearest to the budget: what is lost between blocks of memory is more
        for small ones (docs/results.md, what the cost model predicts).
        """
        atoms, limit, timed = self.budget.atoms, self.budget.memory, self.material.conditions
        if journal.overhead is not None or atoms is None or limit is None:
            return journal
        size = timed.at_least(atoms)
        tensors = {i: each.memory.of(size) for i, each in enumerate(journal.costs) if each.memory is not None}
        models = ((self._drawn(i), tensors[i]) for i in nearest(tensors, limit))
        found = overhead(models, timed, timed.copies_of(atoms), limit)
        if found is None:
            self.watchers.note("No model near the budget could be measured: memory is predicted by tensors alone.")
            return journal
        self.watchers.note(f"A process takes {found:.2f} times the memory of its tensors for {size} atoms.")
        journal = replace(journal, overhead=found)
        journal.save(self.path)
        return journal

    # Rounds.

    def _round(
        self, journal: Journal, costs: CostModel, budget: Budget, effort: Effort, first: int
    ) -> tuple[Journal, Finalist | None]:
        """Candidates that keep a budget, and the best of them."""
        asked = self._asked(costs, budget)
        fitting = [shape for shape in self._shapes if asked.even(shape) is not None]
        if not fitting:
            return journal, None
        this = Round(asked, fitting, self.material, effort, first, costs)
        journal = this.tried(journal, self._keep, self.watchers.note)
        journal = this.decided(journal, self._keep, self.watchers.note)
        return journal, this.best(journal)

    def _smallest(self, journal: Journal, costs: CostModel, allowed: float) -> tuple[Journal, Finalist | None]:
        """The smallest of a few sizes whose forces are good enough after brief training: by bisection of speed."""
        slow, fast = np.log(self.budget.faster or 1.0), np.log(self._fastest(costs))
        best: Finalist | None = None
        errors: list[float] = []
        for number, effort in enumerate(self.effort.rounds(self.budget)):
            speed = float(np.exp((slow + fast) / 2 if number else slow + (fast - slow) / 3))
            limit = replace(self.budget, faster=max(1.0, round(speed, 3)))
            journal, found = self._round(journal, costs, limit, effort, number * effort.candidates)
            good = found is not None and found.forces <= allowed
            errors += [found.forces] if found else []
            self.watchers.note(
                f"{limit.faster:.2f} times as fast: {'' if good else 'not '}within {allowed:g} meV/Angstrom."
            )
            best = found if good else best
            slow, fast = (np.log(speed), fast) if good else (slow, np.log(speed))
        if best is None:
            if not errors:
                raise self._refused(limit if journal.tried else self.budget, journal, costs)
            raise TargetError(
                f"No model that was tried keeps forces within {allowed:g} meV/Angstrom of the labels: the best reached "
                f"{min(errors):.1f} after brief training. Allow more, train longer (`steps`), or give more structures."
            )
        return journal, best

    def _asked(self, costs: CostModel, budget: Budget) -> Asked:
        kept = self.constraints
        return Asked(self.model, kept.targets, self.scores, budget, costs, kept.round_to, kept.keep_lmax)

    @property
    def _shapes(self) -> Sequence[Shape]:
        return shapes(self.model, self.constraints.keep_lmax)

    def _all_smallest(self, costs: CostModel) -> list[Candidate]:
        asked = self._asked(costs, Budget(faster=1.0))
        return [found for shape in self._shapes if (found := asked.smallest(shape)) is not None]

    def _fastest(self, costs: CostModel) -> float:
        found = self._all_smallest(costs)
        if not found:
            raise TargetError("The constraints leave no model. Ask for fewer of them.")
        return max(each.predicted.speed for each in found)

    def _refused(self, budget: Budget, journal: Journal, costs: CostModel) -> TargetError:
        smallest = min(self._all_smallest(costs), key=lambda each: budget.excess(each.predicted), default=None)
        return TargetError(refusal(budget, journal, smallest))
