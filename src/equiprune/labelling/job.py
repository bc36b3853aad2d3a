"""A job of labelling: copies, dynamics and Hessian products of structures, from wherever it was interrupted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from ase import Atoms

from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.dynamics import Dynamics, simulated
from equiprune.labelling.hessian_labels import with_products
from equiprune.labelling.label import label
from equiprune.labelling.substitution import Substitution, substituted
from equiprune.labelling.teachers import CalculatorTeacher, Teacher
from equiprune.potentials.hessian import Probes
from equiprune.progress import Progress
from equiprune.structures.checks import checked
from equiprune.structures.sequences import Origin

BATCH_ATOMS = 256
"""Evaluated at once."""
NO_SUBSTITUTION = Substitution()
"""Elements stay as they are."""


@dataclass(frozen=True)
class LabellingJob:
    """Options of one labelling job: augmentation, dynamics, Hessian probes and substitution of elements."""

    augmentation: Augmentation
    dynamics: Dynamics
    probes: Probes | None
    substitution: Substitution = NO_SUBSTITUTION

    @property
    def each(self) -> int:
        """Labelled structures that become of one."""
        return self._copies * (1 + self.dynamics.frames)

    @property
    def _copies(self) -> int:
        """Starts of dynamics that become of one structure."""
        return (1 + self.substitution.copies) * (1 + self.augmentation.copies)

    def described(self) -> dict[str, object]:
        """The settings that are compared when a job is resumed."""
        described = {"augmentation": self.augmentation, "dynamics": self.dynamics, "hessian": self.probes}
        return described | ({"substitution": self.substitution} if self.substitution.copies else {})

    def starts(self, source: Iterable[Atoms], teacher: Teacher) -> Iterator[Atoms]:
        """Structures, their copies of other elements, and distorted copies of all these."""
        fit = _fit(source, teacher)
        if self.substitution.copies:
            fit = substituted(fit, self.substitution, _known(teacher) or frozenset(self.substitution.elements))
        return augmented(fit, self.augmentation)

    def origins(self) -> Iterator[Origin]:
        """The structure of the file that each start is from."""
        return _sources(self._copies)


def remaining(
    teacher: Teacher, source: Iterable[Atoms], asked: LabellingJob, done: int, step: Progress
) -> Iterator[Atoms]:
    """Labelled structures that follow those that are done."""
    starts = asked.starts(source, teacher)
    structures = simulated(starts, teacher.calculator, asked.dynamics, skip=done, origins=asked.origins())
    sources = _sources(asked.each, done)
    labelled = label(teacher, structures, batch_atoms=BATCH_ATOMS, progress=step, origins=sources)
    if asked.probes is None or isinstance(teacher, CalculatorTeacher):  # of a calculator none can be asked for
        return labelled
    sources = _sources(asked.each, done)
    return with_products(
        teacher.potential, labelled, asked.probes, batch_atoms=BATCH_ATOMS, first=done, origins=sources
    )


def _sources(each: int, done: int = 0) -> Iterator[Origin]:
    """Origins: the structure of the file that each one comes from, ``each`` of one, after those that are done."""
    return (Origin(number // each) for number in count(done))


def _known(teacher: Teacher) -> frozenset[int]:
    """Elements of a model; none is known of a calculator."""
    return frozenset() if isinstance(teacher, CalculatorTeacher) else teacher.potential.elements


def _fit(source: Iterable[Atoms], teacher: Teacher) -> Iterable[Atoms]:
    """Structures that a model can evaluate; of its batches of copies and frames, none knows the number in the file."""
    if isinstance(teacher, CalculatorTeacher):
        return source
    return (atoms for _, atoms in checked(source, teacher.potential.elements))
