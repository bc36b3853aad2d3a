"""Measuring: every property of every structure with every model, an item of shared work each.

Several processes that call this with the same folder share the items, and what was interrupted goes on. The folder
keeps the values of every structure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ase import Atoms
from ase.data import chemical_symbols

from equiprune.errors import TargetError
from equiprune.evaluation.properties.at_rest import relaxed
from equiprune.evaluation.properties.comparison import Measured
from equiprune.evaluation.properties.outcomes import Outcome, UnmeasurableError, Values, Why, outcome
from equiprune.evaluation.properties.quantity import Examination, Model, Relaxed
from equiprune.evaluation.properties.subjects import Subject
from equiprune.evaluation.relaxation import RelaxationRules
from equiprune.files.shared_work import Shared, SharedWork
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.structures.overlap import geometry


def properties(
    potentials: Mapping[str, Potential],
    examinations: Sequence[Examination],
    shared: Shared,
    *,
    rules: RelaxationRules | None = None,
    progress: Progress = silent,
) -> list[Measured]:
    """Measure properties with several models, each of the same structures.

    Args:
        potentials: by name; the first is what others are compared with.
        examinations: properties, and the structures of each.
        shared: a folder that keeps the values, what else they depend on, and this process among others.
        rules: of the relaxation that properties of crystals begin with.
        progress: called with the number of values that are done.

    Raises:
        TargetError: a model has no stress, which a property needs; there are no structures.
        EquipruneError: an optional package is missing.
        OutputError: the folder is of other work, or cannot be written.
        UnfinishedError: another process gives the result.
    """
    models = {name: model_of(potential) for name, potential in potentials.items()}
    return measured(models, examinations, shared, rules=rules, progress=progress)


def model_of(potential: Potential) -> Model:
    """A potential as properties see it."""
    arch = potential.architecture
    return Model(potential.calculator(), potential.elements, arch.cutoff, arch.global_inputs)


def measured(
    models: Mapping[str, Model],
    examinations: Sequence[Examination],
    shared: Shared,
    *,
    rules: RelaxationRules | None = None,
    progress: Progress = silent,
) -> list[Measured]:
    """The same of any calculators of ASE's interface; raises as `properties`."""
    check_possible(models, examinations)
    work = Measuring(models, examinations, rules or RelaxationRules())
    records = work.of(shared).finish(work.record, shared.share, progress)
    found: dict[tuple[int, int, str], Outcome] = {
        (item.examination, item.subject, item.model): Outcome.from_record(record)
        for item, record in zip(work.items, records, strict=True)
    }
    return [
        Measured(each, {name: [found[i, s, name] for s in range(len(each.subjects))] for name in models})
        for i, each in enumerate(examinations)
    ]


def check_possible(models: Mapping[str, Model], examinations: Sequence[Examination]) -> None:
    """Raise `EquipruneError` for what no structure could be measured with."""
    for each in examinations:
        if not each.subjects:
            raise TargetError(f"There is nothing to measure {each.examined.name} of. Give structures or elements.")
        each.examined.check_installed()
        for name, model in models.items():
            _check_usual(each, model)
            if each.examined.needs_stress and "stress" not in model.calculator.implemented_properties:
                raise TargetError(
                    f"{name} has no stress, which {each.examined.name} needs to relax cells. Leave out the model or "
                    "the property."
                )


def _check_usual(examination: Examination, model: Model) -> None:
    """Raise `TargetError` for a structure whose charge or the like is not what the model takes for granted."""
    for subject in examination.subjects:
        for read in model.inputs:
            if (number := read.of(subject.atoms, subject.name)) != read.default:
                raise TargetError(
                    f"{subject.name} has {read.key} {number:g} in its info. Properties are of structures that are "
                    f"repeated and deformed, at {read.key} {read.default:g}. Leave it out."
                )


@dataclass(frozen=True)
class Item:
    """One value to be measured: numbers of the examination and of the structure in it, and the name of the model."""

    examination: int
    subject: int
    model: str


@dataclass(frozen=True)
class Measuring:
    """Everything that is measured.

    Attributes:
        models: by name.
        examinations: properties and their structures.
        rules: of the relaxation that comes first.
    """

    models: Mapping[str, Model]
    examinations: Sequence[Examination]
    rules: RelaxationRules

    @cached_property
    def items(self) -> list[Item]:
        """Values, those of one structure with one model together, so that it is relaxed once."""
        items = [
            Item(i, s, model)
            for i, each in enumerate(self.examinations)
            for s in range(len(each.subjects))
            for model in self.models
        ]
        place = {model: number for number, model in enumerate(self.models)}
        return sorted(items, key=lambda item: (self._subject(item).name, place[item.model], item.examination))

    def of(self, shared: Shared) -> SharedWork:
        """The work, in a folder."""
        names = [f"{item.model} | {self._name(item)} | {self._subject(item).name}" for item in self.items]
        digest = hashlib.sha256("".join(self._subject(item).digest for item in self.items).encode()).hexdigest()
        chosen = {"properties": [each.examined for each in self.examinations], "rules": self.rules}
        settings = {**shared.settings, **chosen, "subjects_sha256": digest}
        return SharedWork(shared.folder, settings, names, [len(self._subject(item).atoms) for item in self.items])

    def record(self, number: int) -> dict[str, Any]:
        """The outcome of an item, as JSON."""
        item = self.items[number]
        examined, subject, model = self.examinations[item.examination].examined, self._subject(item), item.model

        def measure() -> Values:
            check_known(subject, self.models[model])
            return examined.measure(subject, self.models[model], lambda: self._relaxations.of(model, subject.atoms))

        return outcome(measure).to_record()

    @cached_property
    def _relaxations(self) -> Relaxations:
        return Relaxations(self.models, self.rules)

    def _subject(self, item: Item) -> Subject:
        return self.examinations[item.examination].subjects[item.subject]

    def _name(self, item: Item) -> str:
        return self.examinations[item.examination].examined.name


class Relaxations:
    """Relaxations, the last of which is kept: properties of one structure, one after another, begin with the same."""

    def __init__(self, models: Mapping[str, Model], rules: RelaxationRules) -> None:
        self._models, self._rules = models, rules
        self._last: tuple[tuple[str, int], Relaxed | UnmeasurableError] | None = None

    def of(self, model: str, atoms: Atoms) -> Relaxed:
        """The structure relaxed with a model; raises `UnmeasurableError` where it does not come to rest."""
        which = (model, geometry(atoms))
        if self._last is None or self._last[0] != which:
            self._last = (which, self._relaxed(model, atoms))
        if isinstance(self._last[1], UnmeasurableError):
            raise self._last[1]
        return self._last[1]

    def _relaxed(self, model: str, atoms: Atoms) -> Relaxed | UnmeasurableError:
        try:
            return relaxed(atoms, self._models[model].calculator, self._rules)
        except UnmeasurableError as error:
            return error


def check_known(subject: Subject, model: Model) -> None:
    """Raise `UnmeasurableError` naming the elements that the model does not know."""
    unknown = set() if model.elements is None else set(subject.atoms.numbers.tolist()) - model.elements
    if unknown:
        symbols = ", ".join(chemical_symbols[z] for z in sorted(unknown))
        raise UnmeasurableError(Why.UNKNOWN_ELEMENT, f"it does not know {symbols}")
