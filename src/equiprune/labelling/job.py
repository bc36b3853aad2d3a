"""A job of labelling: copies, walks and Hessian products of structures, from wherever it was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ase import Atoms
from ase.data import chemical_symbols

from equiprune.errors import StructureError
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.dynamics import Dynamics
from equiprune.labelling.hessian_labels import with_products
from equiprune.labelling.label import labelled_by
from equiprune.labelling.provenance import NO_PROVENANCE, Provenance
from equiprune.labelling.relaxation import Relaxation
from equiprune.labelling.screening import NO_SCREENING, Objection, Screening
from equiprune.labelling.substitution import Substitution, substituted
from equiprune.labelling.tally import Tally
from equiprune.labelling.teachers import (
    CalculatorError,
    CalculatorTeacher,
    PotentialTeacher,
    Results,
    Teacher,
    check_finite,
    finite,
)
from equiprune.labelling.walks import Driver, EarlyEnd, Visit, Walk, visited
from equiprune.potentials.hessian import Probes
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress
from equiprune.structures.batching import batch_ranges, batches
from equiprune.structures.checks import checked
from equiprune.structures.sequences import Origin, Selection

BATCH_ATOMS = 256
"""Evaluated at once."""
NO_SUBSTITUTION = Substitution()
"""Elements stay as they are."""
NO_RELAXATION = Relaxation()
"""No frames of relaxations."""
_remarks = logging.getLogger("equiprune")


@dataclass(frozen=True)
class LabellingModels:
    """Models of one labelling job.

    Attributes:
        teacher: labels.
        student: makes the walks; the teacher does unless there is one.
        second: another teacher, whose forces are compared with those of the first.
    """

    teacher: Teacher
    student: Potential | None = None
    second: Teacher | None = None

    @property
    def sha256(self) -> dict[str, str]:
        """The sha256 of each model, by what it does."""
        second = {"second_teacher": self.second.fingerprint} if self.second else {}
        student = {"student": self.student.checkpoint.sha256} if self.student else {}
        return {"teacher": self.teacher.fingerprint, **student, **second}

    @property
    def driver(self) -> Driver:
        """The one that makes the walks."""
        return Driver(self.student.calculator(), student=True) if self.student else Driver(self.teacher.calculator)

    def fit(self, source: Iterable[Atoms], first: int = 0) -> Iterable[Atoms]:
        """Structures that every model can evaluate; of its batches of copies and frames, none knows the file's number.

        They are counted from ``first``.

        Raises:
            StructureError: unknown elements, and for a teacher that is a model whatever else no model can evaluate.
        """
        if isinstance(self.teacher, PotentialTeacher):
            potential = self.teacher.potential
            fit = checked(source, potential.elements, inputs=potential.architecture.global_inputs)
            source = (atoms for _, atoms in fit)
        if self.student:
            source = _known_to(source, self.student.elements, "the student", first)
        if isinstance(self.second, PotentialTeacher):
            source = _known_to(source, self.second.potential.elements, "the second teacher", first)
        return source

    @property
    def elements(self) -> frozenset[int]:
        """Elements that every one of the models knows; none is known of a calculator."""
        teachers = [one.potential for one in (self.teacher, self.second) if isinstance(one, PotentialTeacher)]
        known = [frozenset(one.elements) for one in (*teachers, self.student) if one]
        return frozenset.intersection(*known) if known else frozenset()


@dataclass(frozen=True)
class LabellingJob:
    """Options of one labelling job: copies, walks, Hessian probes, other elements, and which labels are kept."""

    augmentation: Augmentation
    dynamics: Dynamics
    probes: Probes | None
    substitution: Substitution = NO_SUBSTITUTION
    relaxation: Relaxation = NO_RELAXATION
    screening: Screening = NO_SCREENING
    provenance: Provenance = NO_PROVENANCE

    @property
    def each(self) -> int:
        """The most labelled structures that become of one."""
        return self._copies * self.visits

    @property
    def visits(self) -> int:
        """The most labelled structures that become of one start."""
        return 1 + self.dynamics.frames + self.relaxation.frames

    @property
    def walks(self) -> Sequence[Walk]:
        """From each start."""
        return [walk for walk in (self.dynamics, self.relaxation) if walk.frames]

    @property
    def _copies(self) -> int:
        """Starts of walks that become of one structure."""
        return (1 + self.substitution.copies) * (1 + self.augmentation.copies)

    def described(self) -> dict[str, object]:
        """The settings that are compared when a job is resumed."""
        described = {"augmentation": self.augmentation, "dynamics": self.dynamics, "hessian": self.probes}
        described |= {"substitution": self.substitution} if self.substitution.copies else {}
        described |= {"relaxation": self.relaxation} if self.relaxation.frames else {}
        return described | ({"screening": self.screening} if self.screening.asked else {}) | self.provenance.described()

    def starts(self, source: Iterable[Atoms], models: LabellingModels, first: int = 0) -> Iterator[Atoms]:
        """Structures, of which the ``first`` has this number, their copies of other elements, and distorted copies."""
        fit = models.fit(source, first)
        if self.substitution.copies:
            known = models.elements or frozenset(self.substitution.elements)
            fit = substituted(fit, self.substitution, known, first)
        return augmented(fit, self.augmentation, first * (1 + self.substitution.copies))

    def groups(self, sizes: Sequence[int]) -> list[range]:
        """Starts that are labelled together, by number, from the sizes of the structures of the file."""
        return batch_ranges((size for size in sizes for _ in range(self._copies)), BATCH_ATOMS)

    def starts_of(self, group: range, structures: Sequence[Atoms], models: LabellingModels) -> list[Atoms]:
        """The starts of a group, made of no other structures than theirs."""
        first, last = group.start // self._copies, (group.stop - 1) // self._copies
        made = self.starts(Selection(structures, range(first, last + 1)), models, first)
        return list(islice(made, group.start - first * self._copies, group.stop - first * self._copies))

    def origin_of(self, start: int) -> Origin:
        """The structure of the file that a start is from."""
        return Origin(start // self._copies)

    def copy_of(self, start: int) -> str:
        """Words for how a start came from its structure of the file; empty for the structure itself."""
        substitution, copy = divmod(start % self._copies, 1 + self.augmentation.copies)
        parts = {"copy {} with other elements": substitution, "displaced copy {}": copy}
        return ", ".join(text.format(number) for text, number in parts.items() if number)


def remaining(
    models: LabellingModels, source: Iterable[Atoms], asked: LabellingJob, tally: Tally, step: Progress
) -> Iterator[tuple[list[Atoms], Tally]]:
    """Batches of labelled structures that follow those of the tally, each with the numbers after it.

    The batches are those that the teacher evaluates, and none holds what comes of two groups of starts, or the bits
    would depend on interruptions and on which process labels which group.
    """
    first = 0
    for group in batches(asked.starts(source, models), BATCH_ATOMS):
        if first + len(group) > tally.place.starts:
            for batch, after in labelled_group(models, group, first, asked, tally, step):
                yield batch, after
                tally = after
        first += len(group)


def labelled_group(
    models: LabellingModels, starts: Sequence[Atoms], first: int, asked: LabellingJob, tally: Tally, step: Progress
) -> Iterator[tuple[list[Atoms], Tally]]:
    """The same of a group of starts, of which the ``first`` has this number."""
    origins = map(asked.origin_of, range(first, first + len(starts)))
    visits = visited(starts, models.driver, asked.walks, begin=tally.place, origins=origins, first=first)
    for batch in batches(visits, BATCH_ATOMS):
        met = [visit for visit in batch if isinstance(visit, Visit)]
        judged = list(_judged(models, met, asked))
        kept = [(visit, atoms) for visit, atoms, objection in judged if objection is None]
        structures = _with_products(models.teacher, kept, asked)
        ends = [end for end in batch if isinstance(end, EarlyEnd)]
        frames = sum(visit.walk is not None for visit, _ in kept)
        tally = tally.after(batch[-1].after, len(met), frames, ends, [o for _, _, o in judged if o])
        step(len(met))
        yield structures, tally


Judged = tuple[Visit, Atoms, Objection | None]
"""A visit, the structure with its labels, and why it is left out."""


def _judged(models: LabellingModels, visits: Sequence[Visit], asked: LabellingJob) -> Iterator[Judged]:
    """The visits of a batch, labelled, and what is to be said against their labels."""
    lenient = [asked.screening.asked or bool(models.student and visit.walk) for visit in visits]
    found = _results(models.teacher, visits, lenient)
    objections = [_objection(*each, asked) for each in zip(visits, found, lenient, strict=True)]
    if models.second:
        left = [i for i, objection in enumerate(objections) if objection is None]
        others = _results(models.second, [visits[i] for i in left], [lenient[i] for i in left])
        for i, other in zip(left, others, strict=True):
            objections[i] = asked.screening.disagreement(found[i], other)
    for visit, results, objection in zip(visits, found, objections, strict=True):
        atoms = labelled_by(models.teacher, visit.atoms, results)
        atoms.info |= asked.provenance.of(visit, asked.copy_of(visit.start), models.sha256.get("student", ""))
        yield visit, atoms, objection


def _results(teacher: Teacher, visits: Sequence[Visit], lenient: Sequence[bool]) -> list[Results]:
    """Results of each visit; none in those that a calculator fails on, where it is ``lenient``."""
    if isinstance(teacher, CalculatorTeacher):
        return [_result(teacher, *each) for each in zip(visits, lenient, strict=True)]
    if not visits:
        return []
    return list(teacher.results([visit.atoms for visit in visits], [visit.origin for visit in visits]))


def _result(teacher: CalculatorTeacher, visit: Visit, lenient: bool) -> Results:
    try:
        [found] = teacher.results([visit.atoms], [visit.origin])
    except CalculatorError as error:
        if not lenient:
            how = "Leave the structure out, or give `largest_force`, with which such structures are left out."
            raise StructureError(f"{error} {how}") from error
        _remarks.info(f"{error} It is left out.")
        return {}
    return found


def _objection(visit: Visit, results: Results, lenient: bool, asked: LabellingJob) -> Objection | None:
    """Why labels are left out; labels that are not finite are an error where nothing was said of leaving out any."""
    if not results:
        return Objection.FAILED
    if finite(results):
        return asked.screening.objection(results)
    if not lenient:
        check_finite(results, visit.atoms, visit.origin)
    return Objection.NOT_FINITE


def _with_products(teacher: Teacher, kept: Sequence[tuple[Visit, Atoms]], asked: LabellingJob) -> list[Atoms]:
    labelled = [atoms for _, atoms in kept]
    if asked.probes is None or isinstance(teacher, CalculatorTeacher):  # of a calculator none can be asked for
        return labelled
    origins, numbers = [visit.origin for visit, _ in kept], [visit.after.number(asked.visits) for visit, _ in kept]
    model, probes = teacher.potential, asked.probes
    return list(with_products(model, labelled, probes, batch_atoms=BATCH_ATOMS, numbers=numbers, origins=origins))


def _known_to(source: Iterable[Atoms], elements: Iterable[int], who: str, first: int) -> Iterator[Atoms]:
    """The structures; raises `StructureError` naming the first with elements that a model does not know."""
    known = frozenset(elements)
    for number, atoms in enumerate(source, first):
        if unknown := sorted(set(atoms.numbers.tolist()) - known):
            symbols, all_known = (", ".join(chemical_symbols[z] for z in zs) for zs in (unknown, sorted(known)))
            raise StructureError(
                f"{Origin(number).of(atoms)} has {symbols}, which {who} does not know. It knows {all_known}. Leave the "
                "structure out."
            )
        yield atoms
