"""Effort and material of a search: how much is tried, on which structures, and how a candidate is built and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from equiprune.adapters.engines import CPU
from equiprune.errors import TargetError
from equiprune.evaluation.accuracy import evaluate
from equiprune.potentials.potential import Potential
from equiprune.pruning.parent_view import FEWEST, ParentView, TooFewError, can_repair
from equiprune.pruning.repair import WorseError, repair
from equiprune.pruning.slicing import prune
from equiprune.searching.budget import Budget
from equiprune.searching.candidates import Candidate
from equiprune.searching.cost_model import Conditions
from equiprune.searching.journal import Errors
from equiprune.structures.sampling import spread, with_atoms_up_to
from equiprune.training.arguments import Resources, Watchers
from equiprune.training.recipe import Recipe
from equiprune.training.trainer import train

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_SIZES = 4
"""Sizes of models that are tried where the smallest one is looked for."""
_FEW_ATOMS = 400
"""Atoms that candidates are repaired with and compared on."""


@dataclass(frozen=True)
class Effort:
    """Numbers that say how long a search takes.

    Attributes:
        measured: models that the cost model is fitted to.
        candidates: models that are built, repaired and compared.
        finalists: models that are measured and trained briefly.
        steps: of that training.
        structures: most structures that a repair looks at, and most that errors are of: fewer of large ones.

    Raises:
        TargetError: less than one of something.
    """

    measured: int = 20
    candidates: int = 24
    finalists: int = 3
    steps: int = 200
    structures: int = 60

    def __post_init__(self) -> None:
        for name, least in (("measured", 6), ("candidates", 1), ("finalists", 1), ("steps", 0), ("structures", FEWEST)):
            if getattr(self, name) < least:
                raise TargetError(f"`{name}` {getattr(self, name)} is not possible: give {least} or more.")

    def rounds(self, budget: Budget) -> list[Effort]:
        """The effort for each size that a search looks at: one, or a few where the smallest model is looked for."""
        if budget.max_force_error is None:
            return [self]
        return [replace(self, candidates=max(1, self.candidates // _SIZES), finalists=1)] * _SIZES

    def total(self, budget: Budget) -> int:
        """Steps that a search reports: models measured, tried, sized, trained, and each winner measured again.

        More are needed where one misses its budget or cannot be trained.
        """
        return self.measured + sum(each.candidates + 2 * each.finalists + 1 for each in self.rounds(budget))


@dataclass(frozen=True)
class Material:
    """Material that candidates are made and judged with.

    Attributes:
        parent: the model that is pruned.
        training: labelled structures for repair and brief training.
        held_out: labelled structures that errors are of.
        conditions: what is timed.
        repeats: timed turns of a finalist.
        recipe: of brief training; its epochs are not looked at.
        effort: how much of everything.
        folder: of the runs.
        seed: of everything that is drawn.
    """

    parent: Potential
    training: Sequence[Atoms]
    held_out: Sequence[Atoms]
    conditions: Conditions
    repeats: int
    recipe: Recipe
    effort: Effort
    folder: Path
    seed: int

    def built(self, plan_of: Candidate) -> Potential:
        """The pruned model, repaired where that is possible and helps."""
        child = prune(self.parent, plan_of.plan, note={"search": plan_of.made})
        if self._view is None:
            return child
        try:
            return repair(child, self._view).potential
        except WorseError:
            return child

    @cached_property
    def _view(self) -> ParentView | None:
        """Results of the parent for a few structures; None where models cannot be repaired from them."""
        some = few(self.training, self.effort.structures)
        if not can_repair(self.parent):
            return None
        try:
            return ParentView.of(self.parent, some, displacements=1, seed=self.seed, gains=False)
        except TooFewError:
            return None

    def errors(self, potential: Potential) -> Errors:
        """Differences from the labels of structures that were held out."""
        [found] = evaluate({"": potential}, few(self.held_out, self.effort.structures))
        forces = found.mae("forces")
        return Errors(found.mae("energy"), float("inf") if forces is None else forces)

    def trained(self, potential: Potential, number: int) -> Potential:
        """The model after brief training, on the device that it is on."""
        if not self.effort.steps:
            return potential
        seen = self.effort.steps * self.recipe.batch_size
        some = spread(self.training, seen)
        recipe = replace(self.recipe, epochs=max(1, seen // len(some)))
        run = self.folder / f"finalist-{number}-{potential.parameters()}"  # each size has a run of its own
        return train(potential, some, recipe, run, resources=Resources(_one_process(potential)), watchers=Watchers())


def _one_process(potential: Potential) -> Fabric:
    """A process that trains on the device of a model."""
    from lightning_fabric import Fabric  # slow to import, and only training needs it

    device = potential.device
    return Fabric(accelerator=device.type, devices=1 if device.type == CPU else [device.index or 0])


def few(structures: Sequence[Atoms], most: int) -> list[Atoms]:
    """At most so many structures, fewer of large ones, but enough to repair a model with where there are."""
    return spread(with_atoms_up_to(structures, _FEW_ATOMS, FEWEST), most)
