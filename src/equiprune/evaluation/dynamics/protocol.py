"""Protocols: what is done with the atoms, the same for every model.

Velocities are drawn at the temperature, Langevin dynamics brings the atoms to equilibrium, and then comes production in
an ensemble. The integrators are those of ASE. Everything that one of them knows besides positions, momenta and cell can
be taken out and put back (``hidden``), so that dynamics can be cut anywhere and go on as if nothing had been.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units

from equiprune.errors import EquipruneError, TargetError
from equiprune.files.settings import kind

Hidden = Mapping[str, Any]
"""State of an integrator besides positions, momenta and cell, as JSON; empty before the first step."""

_FRICTION = 0.01
"""1/fs, of Langevin dynamics that leads to equilibrium."""


@dataclass(frozen=True)
class Conditions:
    """Numbers that every integrator needs.

    Attributes:
        timestep: fs.
        temperature: K.
        seed: of what is drawn, several numbers.
    """

    timestep: float
    temperature: float
    seed: tuple[int, ...]


class Ensemble(ABC):
    """A way to move atoms."""

    conserves_momentum: ClassVar[bool] = True
    moves_cell: ClassVar[bool] = False

    @abstractmethod
    def motion(self, atoms: Atoms, conditions: Conditions, hidden: Hidden) -> Any:
        """ASE's integrator of these atoms, which have a calculator."""

    def hidden(self, motion: Any) -> Hidden:
        """State of the integrator besides positions, momenta and cell."""
        return {"random": motion.rng.bit_generator.state}

    def conserved(self, motion: Any, energy: float) -> float | None:
        """The energy, eV, that exact dynamics would conserve, from kinetic and potential energy; None without one."""
        return None

    def freedom(self, atoms: Atoms) -> int:
        """Degrees of freedom that share the kinetic energy."""
        return 3 * len(atoms) - (3 if self.conserves_momentum else 0)


@kind("nve")
@dataclass(frozen=True)
class NVE(Ensemble):
    """Constant energy and cell: velocity Verlet (ASE's `VelocityVerlet`)."""

    def motion(self, atoms: Atoms, conditions: Conditions, hidden: Hidden) -> Any:
        from ase.md.verlet import VelocityVerlet  # slow to import, and only needed here

        return VelocityVerlet(atoms, conditions.timestep * units.fs)

    def hidden(self, motion: Any) -> Hidden:
        return {}

    def conserved(self, motion: Any, energy: float) -> float | None:
        return energy


@kind("nvt")
@dataclass(frozen=True)
class NVT(Ensemble):
    """Constant temperature and cell: stochastic velocity rescaling (ASE's `Bussi`; J. Chem. Phys. 126, 014101).

    All velocities get one factor, so that diffusion and vibrations are hardly disturbed. Energy minus what the
    thermostat gave is conserved.

    Attributes:
        relaxation: time constant of the thermostat, fs.
    """

    relaxation: float = 100.0

    def __post_init__(self) -> None:
        _check_positive("relaxation", self.relaxation, "fs")

    def motion(self, atoms: Atoms, conditions: Conditions, hidden: Hidden) -> Any:
        motion = _integrator("ase.md.bussi", "Bussi")(
            atoms,
            conditions.timestep * units.fs,
            temperature_K=conditions.temperature,
            taut=self.relaxation * units.fs,
            rng=_generator(conditions.seed, hidden),
        )
        motion.ndof = self.freedom(atoms)  # ASE also counts the motion of the whole, which there is none of
        motion.target_kinetic_energy = 0.5 * units.kB * conditions.temperature * motion.ndof
        motion.transferred_energy = hidden.get("transferred", 0.0)
        return motion

    def hidden(self, motion: Any) -> Hidden:
        return {**super().hidden(motion), "transferred": float(motion.transferred_energy)}

    def conserved(self, motion: Any, energy: float) -> float | None:
        return energy - float(motion.transferred_energy)


@kind("npt")
@dataclass(frozen=True)
class NPT(Ensemble):
    """Constant temperature and pressure: Langevin dynamics of atoms and volume (ASE's `LangevinBAOAB`).

    The shape of the cell stays, its volume moves (Langevin-Hoover, J. Chem. Phys. 120, 11432). Nothing is conserved.

    Attributes:
        pressure: GPa.
        relaxation: time constant of the atoms' friction, fs.
        volume_relaxation: time constant of the volume, fs.
    """

    conserves_momentum: ClassVar[bool] = False
    moves_cell: ClassVar[bool] = True

    pressure: float = 0.0
    relaxation: float = 100.0
    volume_relaxation: float = 1000.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.pressure):
            raise TargetError(f"`pressure` {self.pressure} is not possible: give a number of GPa.")
        _check_positive("relaxation", self.relaxation, "fs")
        _check_positive("volume_relaxation", self.volume_relaxation, "fs")

    def motion(self, atoms: Atoms, conditions: Conditions, hidden: Hidden) -> Any:
        made = _integrator("ase.md.langevinbaoab", "LangevinBAOAB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which says what mass it chooses for the volume
            motion = made(
                atoms,
                conditions.timestep * units.fs,
                temperature_K=conditions.temperature,
                externalstress=-self.pressure * units.GPa,
                hydrostatic=True,
                T_tau=self.relaxation * units.fs,
                P_tau=self.volume_relaxation * units.fs,
                rng=_generator(conditions.seed, hidden),
            )
        motion.p_eps = hidden.get("volume_momentum", motion.p_eps)
        motion.force_eps = hidden.get("volume_force", motion.force_eps)
        return motion

    def hidden(self, motion: Any) -> Hidden:
        of_volume = {"volume_momentum": float(motion.p_eps), "volume_force": float(motion.force_eps)}
        return {**super().hidden(motion), **of_volume}


@dataclass(frozen=True)
class Equilibrating(Ensemble):
    """Langevin dynamics (ASE's `Langevin`) with a friction of 0.01/fs, before production."""

    conserves_momentum: ClassVar[bool] = False

    def motion(self, atoms: Atoms, conditions: Conditions, hidden: Hidden) -> Any:
        from ase.md.langevin import Langevin  # slow to import, and only needed here

        return Langevin(
            atoms,
            conditions.timestep * units.fs,
            temperature_K=conditions.temperature,
            friction=_FRICTION / units.fs,
            fixcm=False,
            rng=_generator(conditions.seed, hidden),
        )


@kind("dynamics_protocol")
@dataclass(frozen=True)
class DynamicsProtocol:
    """Protocol of dynamics: everything that is done with the atoms.

    Attributes:
        ensemble: of production.
        time: of production, ps.
        timestep: fs.
        temperature: K, that velocities are drawn at and that thermostats keep.
        equilibration: Langevin dynamics before production, ps.
        interval: steps from one frame to the next.
        relax: first bring the atoms near rest (FIRE, 0.05 eV/Angstrom or 200 steps), the cell as it is.
        seed: of velocities, friction and thermostats, the same for every model.
        copies: of the structure, each with random numbers of its own; the first has those of a single one.

    >>> protocol = DynamicsProtocol(time=2.0, timestep=0.5, equilibration=0.5)
    >>> protocol.steps, protocol.first, f"{protocol.highest_frequency:.0f} THz"
    (4000, -1000, '200 THz')
    """

    ensemble: Ensemble = NVE()
    time: float = 2.0
    timestep: float = 0.5
    temperature: float = 300.0
    equilibration: float = 0.5
    interval: int = 5
    relax: bool = False
    seed: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        for name, unit in (("time", "ps"), ("timestep", "fs"), ("temperature", "K")):
            _check_positive(name, getattr(self, name), unit)
        if not 0 <= self.equilibration < math.inf:
            raise TargetError(f"`equilibration` {self.equilibration} is not possible: give 0 or more ps.")
        if self.interval < 1:
            raise TargetError(f"`interval` {self.interval} is not possible: give 1 or more steps.")
        if self.copies < 1:
            raise TargetError(f"`copies` {self.copies} is not possible: give 1 or more.")
        if self.steps < 1:
            raise TargetError(
                f"`time` {self.time} ps is shorter than a `timestep` of {self.timestep} fs. Give a longer time."
            )

    @property
    def steps(self) -> int:
        """Steps of production."""
        return round(1e3 * self.time / self.timestep)

    @property
    def first(self) -> int:
        """Step at which everything begins; equilibration counts up to 0, where production begins."""
        return -round(1e3 * self.equilibration / self.timestep)

    @property
    def highest_frequency(self) -> float:
        """THz: the highest that frames can tell (Nyquist)."""
        return 1e3 / (2 * self.timestep * self.interval)

    def picoseconds(self, step: float) -> float:
        """Time of a step, ps; negative while equilibrating."""
        return step * self.timestep / 1e3

    def phase(self, step: int) -> Ensemble:
        """The ensemble of the steps that follow one."""
        return Equilibrating() if step < 0 else self.ensemble

    def conditions(self, step: int, copy: int = 0) -> Conditions:
        """Conditions of a copy in the steps that follow one."""
        return Conditions(self.timestep, self.temperature, self._drawn(1 if step < 0 else 2, copy))

    def velocities(self, atoms: Atoms, copy: int = 0) -> np.ndarray:
        """Momenta (atoms, 3) that a copy begins with."""
        return thermal_momenta(atoms, self.temperature, self._drawn(0, copy))

    def _drawn(self, purpose: int, copy: int) -> tuple[int, ...]:
        """The seed of what is drawn for a purpose."""
        return (self.seed, purpose, copy) if copy else (self.seed, purpose)


def thermal_momenta(atoms: Atoms, temperature: float, seed: tuple[int, ...]) -> np.ndarray:
    """Momenta (atoms, 3) of Maxwell and Boltzmann in ASE's unit, without a motion of the whole.

    >>> momenta = thermal_momenta(Atoms("Ar500"), 300.0, (0,))
    >>> bool(abs(momenta.sum(axis=0)).max() < 1e-9), f"{(momenta**2).sum() / 39.95 / 1497 / units.kB:.0f} K"
    (True, '292 K')
    """
    spread = np.sqrt(atoms.get_masses()[:, None] * units.kB * temperature)
    drawn = spread * np.random.default_rng(seed).standard_normal((len(atoms), 3))
    return without_drift(drawn, atoms.get_masses())


def without_drift(momenta: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """The momenta (atoms, 3) seen from the centre of mass."""
    return momenta - masses[:, None] * momenta.sum(axis=0) / masses.sum()


def _generator(seed: tuple[int, ...], hidden: Hidden) -> np.random.Generator:
    generator = np.random.default_rng(seed)
    if "random" in hidden:
        generator.bit_generator.state = hidden["random"]
    return generator


def _integrator(module: str, name: str) -> Any:
    """An integrator that older versions of ASE lack."""
    from importlib import import_module

    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise EquipruneError(f"This version of ASE has no {name} integrator. pip install --upgrade ase.") from error


def _check_positive(name: str, value: float, unit: str) -> None:
    if not 0 < value < math.inf:
        raise TargetError(f"`{name}` {value} is not possible: give a positive number of {unit}.")
