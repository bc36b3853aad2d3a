"""Labelling: copies, other elements, dynamics, relaxations, screening and Hessian products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, NotNegative, Positive
from equiprune.commands.stages import Product, Takes
from equiprune.errors import TargetError
from equiprune.labelling.augmentation import Augmentation
from equiprune.labelling.dynamics import Dynamics
from equiprune.labelling.relaxation import Relaxation
from equiprune.labelling.screening import Screening
from equiprune.labelling.substitution import Substitution
from equiprune.labelling.teachers import names_calculator
from equiprune.potentials.hessian import Probes, RandomProbes, Rows
from equiprune.pruning.targets.named import Elements

AnotherTeacher = Annotated[str, Takes.of(Product.MODEL, other=names_calculator)]
"""A model, or a calculator; in a pipeline none unless it is named."""


@Parameter(name="*", group=panel("Distorted copies"))
@dataclass(frozen=True)
class CopyOptions(Complete):
    """Structures near those given.

    Attributes:
        copies: distorted copies of each structure, labelled as well.
        rattle: displacement of the copies' atoms, standard deviation in Angstrom.
        strain: deformation of the copies' cells, standard deviation.
    """

    copies: NotNegative = 0
    rattle: float = 0.1
    strain: float = 0.02

    def check(self) -> None:
        self.augmentation(0)

    def augmentation(self, seed: int) -> Augmentation:
        """The same as a value of the API."""
        return Augmentation(self.copies, self.rattle, self.strain, seed)


@Parameter(name="*", group=panel("Other elements"))
@dataclass(frozen=True)
class SubstitutionOptions(Complete):
    """The same structures with other elements.

    Attributes:
        substitutions: copies of each structure in which elements are exchanged for similar ones, at the volume that
            covalent radii ask for; labelled, and distorted, as the structure itself.
        substitute_elements: elements that may come in, e.g. Li,Na,K; all that the model knows unless given.
    """

    substitutions: NotNegative = 0
    substitute_elements: str | None = None

    def check(self) -> None:
        if self.substitute_elements is not None and not self.substitutions:
            raise TargetError("`substitute_elements` are for `substitutions`; give a number of those too.")
        self.substitution(0)

    def substitution(self, seed: int) -> Substitution:
        """The same as a value of the API."""
        named = Elements.parse(self.substitute_elements or "").numbers
        return Substitution(self.substitutions, tuple(sorted(set(named))), seed=seed)


@Parameter(name="*", group=panel("Molecular dynamics"))
@dataclass(frozen=True)
class DynamicsOptions(Complete):
    """Structures that the teacher, or the student, meets.

    Attributes:
        frames: of molecular dynamics that starts from each structure, with the teacher or, if there is one, the
            student; labelled as well.
        temperature: of the dynamics, K.
        interval: steps between its frames.
        timestep: of the dynamics, fs.
    """

    frames: NotNegative = 0
    temperature: float = 600.0
    interval: Positive = 20
    timestep: float = 1.0

    def check(self) -> None:
        self.dynamics(0)

    def dynamics(self, seed: int) -> Dynamics:
        """The same as a value of the API."""
        return Dynamics(self.frames, self.temperature, self.interval, self.timestep, seed)


@Parameter(name="*", group=panel("Relaxation"))
@dataclass(frozen=True)
class RelaxationOptions(Complete):
    """Structures on the way to rest.

    Attributes:
        relaxation_frames: of a relaxation of each structure, and of its cell, with the teacher or, if there is one,
            the student; evenly spread, labelled as well.
        relaxation_steps: the most that a relaxation takes.
    """

    relaxation_frames: NotNegative = 0
    relaxation_steps: Positive = 60

    def check(self) -> None:
        self.relaxation()

    def relaxation(self) -> Relaxation:
        """The same as a value of the API."""
        return Relaxation(self.relaxation_frames, self.relaxation_steps)


@Parameter(name="*", group=panel("Which labels are kept"))
@dataclass(frozen=True)
class ScreeningOptions(Complete):
    """Structures about which the teacher is not to be believed are left out.

    Attributes:
        largest_force: leave out structures with a larger force on any atom, eV/Angstrom, with labels that are not
            finite, or on which a calculator fails.
        second_teacher: another model, or module:callable, whose forces are compared with those of the teacher.
        largest_disagreement: leave out structures with a larger difference of the two forces on any atom, eV/Angstrom.
    """

    largest_force: float | None = None
    second_teacher: AnotherTeacher | None = None
    largest_disagreement: float | None = None

    def check(self) -> None:
        if (self.second_teacher is None) != (self.largest_disagreement is None):
            raise TargetError("`second_teacher` and `largest_disagreement` need each other; give both, or neither.")
        self.screening()

    def screening(self) -> Screening:
        """The same as a value of the API."""
        return Screening(self.largest_force, self.largest_disagreement)


@Parameter(name="*", group=panel("Second derivatives"))
@dataclass(frozen=True)
class ProbeOptions(Complete):
    """Products of the teacher's Hessian, for 'equiprune train --hessian-weight'.

    Attributes:
        hessian_rows: also label this many random rows of each structure's Hessian.
        hessian_probes: instead of rows, products of the Hessian with this many random vectors.
    """

    hessian_rows: Positive | None = None
    hessian_probes: Positive | None = None

    def check(self) -> None:
        if self.hessian_rows is not None and self.hessian_probes is not None:
            raise TargetError("`hessian_rows` and `hessian_probes` are two ways to the same; leave one out.")

    def chosen(self, seed: int) -> Probes | None:
        """The vectors that Hessians are multiplied by, None for none."""
        if self.hessian_probes is not None:
            return RandomProbes(self.hessian_probes, seed)
        return None if self.hessian_rows is None else Rows(self.hessian_rows, seed)


NO_COPIES, NO_DYNAMICS, NO_PROBES = CopyOptions(), DynamicsOptions(), ProbeOptions()
NO_SUBSTITUTIONS, NO_RELAXATIONS, NOTHING_LEFT_OUT = SubstitutionOptions(), RelaxationOptions(), ScreeningOptions()
"""Nothing said."""
