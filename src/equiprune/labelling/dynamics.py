"""Frames of short molecular dynamics: structures that a teacher meets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from equiprune.errors import EquipruneError, StructureError, TargetError
from equiprune.files.settings import kind
from equiprune.labelling.unlabelled import without_labels
from equiprune.structures.sequences import Origin


@kind("dynamics", "Dynamics")
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
                raise TargetError(f"`{name}` {getattr(self, name)} is not possible: give {instead}.")


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
            followed = _followed(without_labels(atoms), calculator, dynamics, generator, place)
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
                f"molecular dynamics at {dynamics.temperature:g} K flies apart. Lower `temperature` or `timestep`, or "
                "relax the structure first."
            )
        yield without_labels(moving)
