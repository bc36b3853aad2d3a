"""torch-sim as the engine: all copies of a structure are evaluated and moved as one batch at every step.

torch-sim's velocity Verlet moves them, in float64 whatever the precision of the model, as ASE does. Thermostats and
Langevin dynamics before production are ASE's integrators, one for each copy, which draw what they draw when ASE moves
the copy alone; only their forces come from the batch. So every copy goes the way that it goes in ASE, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from equiprune.errors import TargetError
from equiprune.evaluation.dynamics.engines import Engine, Moment, Moving, moment, never_wrapped
from equiprune.evaluation.dynamics.protocol import NVE, NVT, Conditions, Ensemble, Equilibrating, Hidden
from equiprune.potentials.potential import Potential, PotentialCalculator
from equiprune.potentials.torch_sim_model import torch_sim, torch_sim_model


@dataclass(frozen=True)
class TorchSimEngine(Engine):
    """torch-sim in this process, for constant energy or temperature; all copies are one batch.

    Structures are periodic in all directions or in none, and the model is a `Potential`.
    """

    name = "torch-sim"
    together = True

    def check(self, ensemble: Ensemble, atoms: Atoms) -> None:
        if not isinstance(ensemble, NVE | NVT):
            raise TargetError(
                "torch-sim does constant energy and constant temperature (`ensemble` nve or nvt) here. For others "
                "choose `engine` ase."
            )
        if atoms.pbc.any() != atoms.pbc.all():
            raise TargetError(
                "torch-sim takes structures that are periodic in all directions or in none. Choose `engine` ase."
            )
        torch_sim_model(_potential(atoms))

    def moments(self, atoms: Atoms, ensemble: Ensemble, conditions: Conditions, hidden: Hidden) -> Iterator[Moment]:
        for [only] in self.batches([Moving(atoms, conditions, hidden)], ensemble):
            yield only

    def batches(self, copies: Sequence[Moving], ensemble: Ensemble) -> Iterator[Sequence[Moment]]:
        return _Batch(copies, ensemble).moments()


class _Batch:
    """Copies of a structure, in torch-sim and in ASE, kept alike.

    torch-sim wraps atoms into the cell; those of ASE are never wrapped.
    """

    def __init__(self, copies: Sequence[Moving], ensemble: Ensemble) -> None:
        self.ensemble, self.atoms = ensemble, [each.atoms for each in copies]
        self.model = torch_sim_model(_potential(self.atoms[0]))
        self.found: dict[str, Tensor] = {}
        self.state = self._begun()
        for atoms in self.atoms:
            atoms.calc = _NoForces()
        self.motions = [ensemble.motion(each.atoms, each.conditions, each.hidden) for each in copies]
        step = self._tensor([copies[0].conditions.timestep * units.fs])[0]
        _, self.verlet = torch_sim().nve(self._evaluated, dt=step, kT=torch.zeros_like(step))

    def moments(self) -> Iterator[Sequence[Moment]]:
        """The moments after one step and the next."""
        step = self._step_with_friction if isinstance(self.ensemble, Equilibrating) else self._step
        while True:
            step()
            yield [self._moment(*each) for each in enumerate(self._by_copy(self.found["forces"]))]

    def _step(self) -> None:
        """Velocity Verlet; a thermostat scales velocities before."""
        if isinstance(self.ensemble, NVT):
            for motion in self.motions:
                motion.scale_velocities()
        self.state.momenta = self._tensor([atoms.get_momenta() for atoms in self.atoms])
        self.state = self.verlet(self.state)
        for atoms, momenta in zip(self.atoms, self._by_copy(self.state.momenta), strict=True):
            atoms.set_momenta(momenta)

    def _step_with_friction(self) -> None:
        """ASE's Langevin dynamics without forces at the end, which are added when all copies have been evaluated."""
        for motion, forces in zip(self.motions, self._by_copy(self.found["forces"]), strict=True):
            motion.step(forces)
        self.state.positions = self._tensor([atoms.positions for atoms in self.atoms])
        found = self._evaluated(self.state)
        for motion, atoms, forces in zip(self.motions, self.atoms, self._by_copy(found["forces"]), strict=True):
            atoms.set_momenta(atoms.get_momenta() + motion.c1 * forces)

    def _evaluated(self, state: Any) -> dict[str, Tensor]:
        """Called by torch-sim with positions that it has just moved."""
        for atoms, places in zip(self.atoms, self._by_copy(state.positions), strict=True):
            atoms.positions = never_wrapped(places, atoms)
        self.found = self.model(state)
        return self.found

    def _begun(self) -> Any:
        """torch-sim's state of the atoms as they are."""
        from torch_sim.integrators.md import MDState

        bare = torch_sim().io.atoms_to_state(self.atoms, self.model.device, torch.float64)
        found = self._evaluated(bare)
        momenta = self._tensor([atoms.get_momenta() for atoms in self.atoms])
        return MDState(**vars(bare), momenta=momenta, energy=found["energy"], forces=found["forces"])

    def _moment(self, number: int, forces: np.ndarray) -> Moment:
        atoms, motion = self.atoms[number].copy(), self.motions[number]
        results = {"energy": float(self.found["energy"][number]), "forces": forces}
        if "stress" in self.found:
            results["stress"] = full_3x3_to_voigt_6_stress(self.found["stress"][number].cpu().numpy())
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.calc.implemented_properties = list(results)
        return moment(atoms, self.ensemble, self.ensemble.hidden(motion), motion)

    def _tensor(self, values: Sequence[Any]) -> Tensor:
        """One after another, in float64 on the device of the model."""
        return torch.tensor(np.concatenate([np.atleast_1d(each) for each in values]), device=self.model.device)

    def _by_copy(self, values: Tensor) -> list[np.ndarray]:
        """Numbers of all atoms (atoms, 3), of each copy by itself."""
        return [own.numpy() for own in values.detach().cpu().split([len(atoms) for atoms in self.atoms])]


class _NoForces(Calculator):
    """Forces of zero: the last half of a step is linear in forces, and the batch gives them afterwards."""

    implemented_properties = ["forces"]  # noqa: RUF012 (ASE's interface)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"forces": np.zeros((len(atoms), 3))}


def _potential(atoms: Atoms) -> Potential:
    """The potential of the atoms' calculator; raises `TargetError` for a calculator of another kind."""
    if not isinstance(atoms.calc, PotentialCalculator):
        raise TargetError("torch-sim moves atoms with the calculator of a potential (`Potential.calculator`) alone.")
    return atoms.calc.potential
