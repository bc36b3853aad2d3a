"""A job of labelling: copies, walks and Hessian products of structures, from wherever it was interrupted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

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
from equiprune.labelling.teachers import CalculatorTeacher, PotentialTeacher, Results, Teacher, check_finite, finite
from equiprune.labelling.walks import Driver, EarlyEnd, Visit, Walk, visited
from equiprune.potentials.hessian import Probes
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress
from equiprune.structures.batching import batches
from equiprune.structures.checks import checked
from equiprune.structures.sequences import Origin

BATCH_ATOMS = 256
"""Evaluated at once."""
NO_SUBSTITUTION = Substitution()
"""Elements stay as they are."""
NO_RELAXATION = Relaxation()
"""No frames of relaxations."""


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

    def fit(self, source: Iterable[Atoms]) -> Iterable[Atoms]:
        """Structures that every model can evaluate; of its batches of copies and frames, none knows the file's number.

        Raises:
            StructureError: unknown elements, and for a teacher that is a model whatever else no model can evaluate.
        """
        if isinstance(self.teacher, PotentialTeacher):
            source = (atoms for _, atoms in checked(source, self.teacher.potential.elements))
        if self.student:
            source = _known_to(source, self.student.elements, "the student")
        if isinstance(self.second, PotentialTeacher):
            source = _known_to(source, self.second.potential.elements, "the second teacher")
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

    def starts(self, source: Iterable[Atoms], models: LabellingModels) -> Iterator[Atoms]:
        """Structures, their copies of other elements, and distorted copies of all these."""
        fit = models.fit(source)
        if self.substitution.copies:
            fit = substituted(fit, self.substitution, models.elements or frozenset(self.substitution.elements))
        return augmented(fit, self.augmentation)

    def origins(self) -> Iterator[Origin]:
        """The structure of the file that each start is from."""
        return (Origin(number // self._copies) for number in count())

    def copy_of(self, start: int) -> str:
        """Words for how a start came from its structure of the file; empty for the structure itself."""
        substitution, copy = divmod(start % self._copies, 1 + self.augmentation.copies)
        parts = {"copy {} with other elements": substitution, "displaced copy {}": copy}
        return ", ".join(text.format(number) for text, number in parts.items() if number)


def remaining(
    models: LabellingModels, source: Iterable[Atoms], asked: LabellingJob, done: int, tally: Tally, step: Progress
) -> Iterator[tuple[list[Atoms], Tally]]:
    """Batches of labelled structures that follow those that are ``done``, each with the numbers after it.

    The batches are those that the teacher evaluates, or the bits would depend on interruptions.
    """
    starts = asked.starts(source, models)
    visits = visited(starts, models.driver, asked.walks, begin=tally.place, origins=asked.origins())
    for batch in batches(visits, BATCH_ATOMS):
        met = [visit for visit in batch if isinstance(visit, Visit)]
        judged = list(_judged(models, met, asked))
        kept = [(visit, atoms) for visit, atoms, objection in judged if objection is None]
        structures = _with_products(models.teacher, kept, asked, done)
        ends = [end for end in batch if isinstance(end, EarlyEnd)]
        frames = sum(visit.walk is not None for visit, _ in kept)
        tally = tally.after(batch[-1].after, len(met), frames, ends, [o for _, _, o in judged if o])
        done += len(structures)
        step(len(met))
        yield structures, tally


Judged = tuple[Visit, Atoms, Objection | None]
"""A visit, the structure with its labels, and why it is left out."""


def _judged(models: LabellingModels, visits: Sequence[Visit], asked: LabellingJob) -> Iterator[Judged]:
    """The visits of a batch, labelled, and what is to be said against their labels."""
    found = _results(models.teacher, visits)
    objections = [_objection(visit, results, models, asked) for visit, results in zip(visits, found, strict=True)]
    if models.second:
        left = [i for i, objection in enumerate(objections) if objection is None]
        others = _results(models.second, [visits[i] for i in left])
        for i, other in zip(left, others, strict=True):
            objections[i] = asked.screening.disagreement(found[i], other)
    for visit, results, objection in zip(visits, found, objections, strict=True):
        atoms = labelled_by(models.teacher, visit.atoms, results)
        atoms.info |= asked.provenance.of(visit, asked.copy_of(visit.start), models.sha256.get("student", ""))
        yield visit, atoms, objection


def _results(teacher: Teacher, visits: Sequence[Visit]) -> list[Results]:
    if not visits:
        return []
    return list(teacher.results([visit.atoms for visit in visits], [visit.origin for visit in visits]))


def _objection(visit: Visit, results: Results, models: LabellingModels, asked: LabellingJob) -> Objection | None:
    """Why labels are left out; labels that are not finite are an error where nothing was said of leaving out any."""
    if finite(results):
        return asked.screening.objection(results)
    if not asked.screening.asked and not (models.student and visit.walk):
        check_finite(results, visit.atoms, visit.origin)
    return Objection.NOT_FINITE


def _with_products(
    teacher: Teacher, kept: Sequence[tuple[Visit, Atoms]], asked: LabellingJob, done: int
) -> list[Atoms]:
    labelled = [atoms for _, atoms in kept]
    if asked.probes is None or isinstance(teacher, CalculatorTeacher):  # of a calculator none can be asked for
        return labelled
    origins, how = [visit.origin for visit, _ in kept], {"batch_atoms": BATCH_ATOMS, "first": done}
    return list(with_products(teacher.potential, labelled, asked.probes, **how, origins=origins))


def _known_to(source: Iterable[Atoms], elements: Iterable[int], who: str) -> Iterator[Atoms]:
    """The structures; raises `StructureError` naming the first with elements that a model does not know."""
    known = frozenset(elements)
    for number, atoms in enumerate(source):
        if unknown := sorted(set(atoms.numbers.tolist()) - known):
            symbols, all_known = (", ".join(chemical_symbols[z] for z in zs) for zs in (unknown, sorted(known)))
            raise StructureError(
                f"{Origin(number).of(atoms)} has {symbols}, which {who} does not know. It knows {all_known}. Leave the "
                "structure out."
            )
        yield atoms
