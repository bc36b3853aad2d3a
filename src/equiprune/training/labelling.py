"""Labels from a teacher: structures with the energy, forces and stress that a model gives them.

A pruned model is retrained towards its parent without any pre-training data: the user's own structures, displaced and
strained, or met in short molecular dynamics, are labelled by the parent. Labels are written as ordinary calculator
results, so that a teacher of another architecture, in another environment, teaches through the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_properties
from ase.calculators.singlepoint import SinglePointCalculator

from equiprune.errors import EquipruneError, StructureError, TargetError
from equiprune.potential import Potential, located_batches
from equiprune.storage import Progress, silent
from equiprune.structure_files import Origin
from equiprune.training.teachers import PotentialTeacher, Teacher, check_finite


@dataclass(frozen=True)
class Augmentation:
    """Copies of each structure with random displacements and strains.

    Attributes:
        copies: per structure, besides the structure itself.
        rattle: standard deviation of each coordinate's displacement, Angstrom.
        strain: standard deviation of each component of the cell's deformation, for periodic structures.
        seed: of both.
    """

    copies: int = 0
    rattle: float = 0.1
    strain: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("copies", "rattle", "strain"):
            if not 0 <= getattr(self, name) < np.inf:
                raise TargetError(f"--{name} {getattr(self, name)} is not possible: give 0 or a positive number.")


@dataclass(frozen=True)
class Dynamics:
    """Frames of short molecular dynamics (Langevin, friction 0.01/fs) that starts from each structure.

    Attributes:
        frames: per structure, besides the structure itself.
        temperature: K.
        interval: steps between frames.
        timestep: fs.
        seed: of velocities and friction.
    """

    frames: int = 0
    temperature: float = 600.0
    interval: int = 20
    timestep: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "frames": (self.frames >= 0, "0 or more"),
            "temperature": (0 < self.temperature < np.inf, "a positive number of K"),
            "interval": (self.interval >= 1, "1 or more steps"),
            "timestep": (0 < self.timestep < np.inf, "a positive number of fs"),
        }
        for name, (possible, instead) in allowed.items():
            if not possible:
                raise TargetError(f"--{name} {getattr(self, name)} is not possible: give {instead}.")


def augmented(structures: Iterable[Atoms], augmentation: Augmentation) -> Iterator[Atoms]:
    """Each structure without its labels, followed by its distorted copies."""
    generator = np.random.default_rng(augmentation.seed)
    for atoms in structures:
        bare = _bare(atoms)
        yield bare
        for _ in range(augmentation.copies):
            yield _distorted(bare, augmentation, generator)


_STATE = ("initial_charges", "initial_magmoms")
"""What a calculator may start from, and no label."""


def _bare(atoms: Atoms) -> Atoms:
    """With what says which system it is: charges, magnetic moments, the text and numbers of ``info``.

    Without labels, which could be mistaken for the teacher's.
    """
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in _STATE:
        if atoms.has(name):
            bare.set_array(name, atoms.get_array(name))
    info = {key: value for key, value in atoms.info.items() if isinstance(key, str)}
    scalars = {k: v.item() if isinstance(v, np.generic) else v for k, v in info.items()}
    bare.info = {k: v for k, v in scalars.items() if not _is_label(k, v) and _survives(k, v)}
    return bare


def _is_label(key: str, value: Any) -> bool:
    """A number called after what a model predicts, such as dft_energy, and whose labels there were."""
    named = key in {*all_properties, "teacher_sha256"} or key.startswith("REF_")
    about = any(word in key.lower() for word in ("energy", "force", "stress", "virial"))
    return named or (about and isinstance(value, int | float) and not isinstance(value, bool))


def _survives(key: str, value: Any) -> bool:
    """Whether an extxyz file gives an entry back as it is; of ``"007"`` it would make a 7."""
    if not isinstance(value, str | int | float) or key in ("Lattice", "Properties", "pbc"):
        return False
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict  # slow to import, and only needed here

    text = key_val_dict_to_str({key: value})
    read = key_val_str_to_dict(text) if text.isprintable() else {}
    same = read.keys() == {key} and np.ndim(read[key]) == 0 and read[key] == value
    return bool(same) and np.asarray(read[key]).dtype.kind == np.asarray(value).dtype.kind


def _distorted(atoms: Atoms, augmentation: Augmentation, generator: np.random.Generator) -> Atoms:
    copy = atoms.copy()
    if copy.pbc.all():
        deformation = np.eye(3) + augmentation.strain * generator.standard_normal((3, 3))
        copy.set_cell(copy.cell.array @ deformation, scale_atoms=True)
    copy.positions += augmentation.rattle * generator.standard_normal(copy.positions.shape)
    return copy


def simulated(
    structures: Iterable[Atoms],
    calculator: Calculator,
    dynamics: Dynamics,
    *,
    skip: int = 0,
    origins: Iterable[Origin] | None = None,
) -> Iterator[Atoms]:
    """Each structure without its labels, followed by frames of molecular dynamics that starts from it.

    The first ``skip`` of all these are left out, and so is dynamics of which no frame would be left. ``origins`` are
    what errors say of where a structure is from; unless given, its place in ``structures``.

    Raises:
        StructureError: the calculator fails, or the atoms fly apart: a position is not finite, or two structures'
            lengths away from its start.
    """
    places = map(Origin, count()) if origins is None else iter(origins)
    for number, (atoms, place) in enumerate(zip(structures, places, strict=False)):
        before = number * (1 + dynamics.frames)
        if skip < before + 1 + dynamics.frames:
            generator = np.random.default_rng([dynamics.seed, number])
            followed = _followed(_bare(atoms), calculator, dynamics, generator, place)
            yield from islice(followed, max(skip - before, 0), None)


def _followed(
    atoms: Atoms, calculator: Calculator, dynamics: Dynamics, generator: np.random.Generator, place: Origin
) -> Iterator[Atoms]:
    yield atoms
    if not dynamics.frames:
        return
    try:
        yield from _frames(atoms, calculator, dynamics, generator)
    except EquipruneError as error:
        raise StructureError(f"{place.of(atoms)}: {error}") from error
    except Exception as error:  # every calculator fails in its own way
        reason = f"{type(error).__name__}: {error}"
        raise StructureError(f"{place.of(atoms)}: molecular dynamics failed ({reason}).") from error


def _frames(
    atoms: Atoms, calculator: Calculator, dynamics: Dynamics, generator: np.random.Generator
) -> Iterator[Atoms]:
    from ase.md.langevin import Langevin  # slow to import, and only needed here

    moving = atoms.copy()
    moving.calc = calculator
    spread = np.sqrt(moving.get_masses()[:, None] * units.kB * dynamics.temperature)  # of Maxwell and Boltzmann
    moving.set_momenta(spread * generator.standard_normal((len(moving), 3)))
    motion = Langevin(
        moving,
        dynamics.timestep * units.fs,
        temperature_K=dynamics.temperature,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=generator,
    )
    far = 2 * (np.ptp(atoms.positions, axis=0).max() + atoms.cell.lengths().max() + 1)
    for _ in range(dynamics.frames):
        motion.run(dynamics.interval)
        if not np.abs(moving.positions - atoms.positions).max() < far:
            raise StructureError(
                f"molecular dynamics at {dynamics.temperature:g} K flies apart. Lower --temperature or --timestep, or "
                "relax the structure first."
            )
        yield _bare(moving)


def label(
    teacher: Potential | Teacher,
    structures: Iterable[Atoms],
    *,
    batch_atoms: int = 256,
    progress: Progress = silent,
    origins: Iterable[Origin] | None = None,
) -> Iterator[Atoms]:
    """Structures with the teacher's energy (eV), forces (eV/Angstrom) and stress (eV/Angstrom^3) as their only labels.

    ``info["teacher_sha256"]`` says whose they are, unless the teacher is a model that has not been saved. ``origins``
    are what errors say of where a structure is from; unless given, its place in ``structures``.

    Raises:
        StructureError: unknown elements, a calculator that fails, or a label that is not finite.
    """
    teacher = PotentialTeacher(teacher) if isinstance(teacher, Potential) else teacher
    fingerprint = teacher.fingerprint
    for places, batch in located_batches(structures, batch_atoms, origins):
        for atoms, place, results in zip(batch, places, teacher.results(batch, places), strict=True):
            check_finite(results, atoms, place)
            labelled = _bare(atoms)
            if fingerprint:  # an empty one would make an extxyz file unreadable
                labelled.info["teacher_sha256"] = fingerprint
            labelled.calc = SinglePointCalculator(labelled, **results)
            yield labelled
        progress(len(batch))
