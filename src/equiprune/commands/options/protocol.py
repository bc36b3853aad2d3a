"""Protocols of dynamics, and what is looked at in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, NotNegative, Positive, Switch
from equiprune.errors import TargetError
from equiprune.evaluation.dynamics.drift import LIMIT
from equiprune.evaluation.dynamics.engines import AseEngine, Engine
from equiprune.evaluation.dynamics.lammps import LammpsEngine
from equiprune.evaluation.dynamics.measured import DynamicsAnalysis
from equiprune.evaluation.dynamics.protocol import NPT, NVE, NVT, DynamicsProtocol, Ensemble
from equiprune.evaluation.dynamics.torch_sim import TorchSimEngine

EnsembleName = Literal["nve", "nvt", "npt"]
EngineName = Literal["ase", "lammps", "torch-sim"]

_ENGINES: dict[EngineName, Engine] = {"ase": AseEngine(), "lammps": LammpsEngine(), "torch-sim": TorchSimEngine()}


@Parameter(name="*", group=panel("Protocol"))
@dataclass(frozen=True)
class ProtocolOptions(Complete):
    """Protocol of dynamics.

    Attributes:
        ensemble: of production: nve (velocity Verlet), nvt (stochastic velocity rescaling), npt (Langevin, the volume
            too).
        time: of production, ps.
        timestep: fs.
        temperature: K.
        pressure: GPa, of npt; 0 unless given.
        equilibration: Langevin dynamics before production, ps.
        interval: steps from one frame to the next.
        relax: first bring the atoms near rest, the cell as it is.
        seed: of velocities, friction and thermostats.
        copies: of the structure, each with velocities of its own; their results are pooled.
        engine: the program that moves the atoms; torch-sim moves all copies as one batch.
    """

    ensemble: EnsembleName = "nve"
    time: float = 2.0
    timestep: float = 0.5
    temperature: float = 300.0
    pressure: float | None = None
    equilibration: float = 0.5
    interval: Positive = 5
    relax: Switch = False
    seed: NotNegative = 0
    copies: Positive = 1
    engine: EngineName = "ase"

    def check(self) -> None:
        if self.pressure is not None and self.ensemble != "npt":
            raise TargetError("`pressure` is for constant pressure: give `ensemble` npt too, or leave it out.")
        if self.engine == "lammps" and self.ensemble != "nve":
            raise TargetError("LAMMPS does `ensemble` nve alone here. For others choose `engine` ase.")
        if self.engine == "torch-sim" and self.ensemble == "npt":
            raise TargetError("torch-sim does `ensemble` nve and nvt alone here. For npt choose `engine` ase.")
        self.protocol()

    def protocol(self) -> DynamicsProtocol:
        """The same as a value of the API."""
        moving = (self.time, self.timestep, self.temperature, self.equilibration, self.interval, self.relax)
        return DynamicsProtocol(self._ensemble, *moving, self.seed, self.copies)

    def chosen_engine(self) -> Engine:
        """The program that moves the atoms."""
        return _ENGINES[self.engine]

    @property
    def _ensemble(self) -> Ensemble:
        ensembles: dict[EnsembleName, Ensemble] = {"nve": NVE(), "nvt": NVT(), "npt": NPT(self.pressure or 0.0)}
        return ensembles[self.ensemble]


@Parameter(name="*", group=panel("What is looked at"))
@dataclass(frozen=True)
class AnalysisOptions(Complete):
    """Quantities that are looked at in dynamics.

    Attributes:
        drift_limit: largest drift of the conserved energy that passes, meV/atom/ps.
        pairs: of elements, for radial distribution functions, e.g. O-O,O-H; all unless given.
        reach: of those, Angstrom; half of the shortest height of the cell, at most 8, unless given.
    """

    drift_limit: float = LIMIT
    pairs: str | None = None
    reach: float | None = None

    def check(self) -> None:
        self.analysis()

    def analysis(self) -> DynamicsAnalysis:
        """The same as a value of the API."""
        return DynamicsAnalysis(self.drift_limit, self.pairs, self.reach)


USUAL_PROTOCOL, USUAL_ANALYSIS = ProtocolOptions(), AnalysisOptions()
"""Nothing said."""
