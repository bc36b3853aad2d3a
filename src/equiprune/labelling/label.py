"""Labels from a teacher: structures with the energy, forces and stress that a model gives them.

A pruned model is retrained towards its parent without any pre-training data: the user's own structures, displaced and
strained, or met in short molecular dynamics, are labelled by the parent. Labels are written as ordinary calculator
results, so that a teacher of another architecture, in another environment, teaches through the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equiprune.labelling.teachers import PotentialTeacher, Results, Teacher, check_finite
from equiprune.labelling.unlabelled import without_labels
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.structures.batching import located_batches
from equiprune.structures.sequences import Origin


def label(
    teacher: Potential | Teacher,
    structures: Iterable[Atoms],
    *,
    batch_atoms: int = 256,
    progress: Progress = silent,
    origins: Iterable[Origin] | None = None,
) -> Iterator[Atoms]:
    """Structures with the teacher's energy (eV), forces (eV/Angstrom) and stress (eV/Angstrom^3) as their only labels.

    With them go atom energies (eV, ASE's ``energies``), which every model has and some calculators.
    ``info["teacher_sha256"]`` says whose they are, unless the teacher is a model that has not been saved. ``origins``
    are what errors say of where a structure is from; unless given, its place in ``structures``.

    Raises:
        StructureError: unknown elements, a calculator that fails, or a label that is not finite.
    """
    teacher = PotentialTeacher(teacher) if isinstance(teacher, Potential) else teacher
    for places, batch in located_batches(structures, batch_atoms, origins):
        for atoms, place, results in zip(batch, places, teacher.results(batch, places), strict=True):
            check_finite(results, atoms, place)
            yield labelled_by(teacher, atoms, results)
        progress(len(batch))


def labelled_by(teacher: Teacher, atoms: Atoms, results: Results) -> Atoms:
    """The structure with these results of the teacher as its only labels."""
    labelled = without_labels(atoms)
    if fingerprint := teacher.fingerprint:  # an empty one would make an extxyz file unreadable
        labelled.info["teacher_sha256"] = fingerprint
    labelled.calc = SinglePointCalculator(labelled, **results)
    return labelled
