"""Frames of short molecular dynamics: structures that a model meets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from equiprune.errors import TargetError
from equiprune.files.settings import kind
from equiprune.labelling.walks import Driver, Place, Visit, Walk, visited
from equiprune.structures.sequences import Origin


@kind("dynamics", "Dynamics")
@dataclass(frozen=True)
class Dynamics(Walk):
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

    @property
    def name(self) -> str:
        return "molecular dynamics"

    @property
    def flown_apart(self) -> str:
        return (
            f"molecular dynamics at {self.temperature:g} K flies apart. Lower `temperature` or `timestep`, or relax "
            "the structure first."
        )

    def stops(self, moving: Atoms, number: int) -> Iterator[None]:
        from ase.md.langevin import Langevin  # slow to import, and only needed here

        generator = np.random.default_rng([self.seed, number])
        spread = np.sqrt(moving.get_masses()[:, None] * units.kB * self.temperature)  # of Maxwell and Boltzmann
        moving.set_momenta(spread * generator.standard_normal((len(moving), 3)))
        motion = Langevin(
            moving,
            self.timestep * units.fs,
            temperature_K=self.temperature,
            friction=0.01 / units.fs,
            fixcm=False,
            rng=generator,
        )
        for _ in range(self.frames):
            motion.run(self.interval)
            yield


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
    begin = Place(*divmod(skip, 1 + dynamics.frames))
    visits = visited(structures, Driver(calculator), [dynamics], begin=begin, origins=origins)
    return (visit.atoms for visit in visits if isinstance(visit, Visit))
