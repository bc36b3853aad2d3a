"""Results of the dynamics of one model: energy, temperature, pressure, structure, motion, speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from equiprune.errors import TargetError
from equiprune.evaluation.dynamics.crashes import Crash
from equiprune.evaluation.dynamics.distribution import Distribution, distributions, farthest, pairs_of
from equiprune.evaluation.dynamics.drift import LIMIT, Drift, Verdict
from equiprune.evaluation.dynamics.motion import (
    SQUARE_CENTIMETRES,
    Spectrum,
    diffusion_by_element,
    velocities_of,
    vibrations,
)
from equiprune.evaluation.dynamics.protocol import DynamicsProtocol
from equiprune.evaluation.dynamics.statistics import Estimate, mean
from equiprune.evaluation.dynamics.trajectory import CopyFiles, Saved


@dataclass(frozen=True)
class DynamicsAnalysis:
    """Quantities that are looked at.

    Attributes:
        drift_limit: largest drift of the conserved energy that passes, meV/atom/ps.
        pairs: of elements, for radial distribution functions, such as ``O-O,O-H``; all unless given.
        reach: distance up to which they go, Angstrom; half of the shortest height of the cell, at most 8, unless given.
    """

    drift_limit: float = LIMIT
    pairs: str | None = None
    reach: float | None = None

    def __post_init__(self) -> None:
        if not self.drift_limit > 0:
            raise TargetError(
                f"`drift_limit` {self.drift_limit} is not possible: give a positive number of meV/atom/ps."
            )

    def check(self, atoms: Atoms) -> None:
        """Raise `TargetError` for pairs and distances that the structure does not have."""
        pairs_of(atoms, self.pairs)
        if farthest(atoms, self.reach) is None and (self.reach is not None or self.pairs is not None):
            raise TargetError(
                "The structure is not periodic in three directions, so that it has no radial distribution functions. "
                "Leave out `pairs` and `reach`."
            )


@dataclass(frozen=True, eq=False)
class ModelDynamics:
    """Dynamics of one model, measured. What could not be measured is None or empty.

    Of several copies of the structure it is what `pooling.pooled` makes of them.

    Attributes:
        model: as it was named.
        atoms: that were moved.
        protocol: what was done with them.
        conditions: ``engine``, ``dtype``, ``device``, ``threads``.
        steps: of production that were sound; of all copies together.
        crash: that ended it early; of several copies, the first.
        drift: of the conserved energy.
        temperature: mean, K.
        pressure: mean, GPa.
        volume: mean, Angstrom^3, where it moves.
        distributions: radial distribution functions.
        diffusion: coefficients by element, Angstrom^2/ps, where the cell does not move.
        spectrum: vibrational density of states.
        steps_per_second: of production, without writing; of all copies together.
        curves: numbers of every step (steps,), with units in their names.
        copies: by themselves, where there are several.
        identity: ``sha256`` of the model's file and its ``head``.
    """

    model: str
    atoms: int
    protocol: DynamicsProtocol
    conditions: Mapping[str, Any]
    steps: int
    crash: Crash | None = None
    drift: Drift | None = None
    temperature: Estimate | None = None
    pressure: Estimate | None = None
    volume: Estimate | None = None
    distributions: Sequence[Distribution] = ()
    diffusion: Mapping[str, Estimate] = field(default_factory=dict)
    spectrum: Spectrum | None = None
    steps_per_second: float | None = None
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    copies: Sequence[ModelDynamics] = ()
    identity: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True if it did not crash and its conserved energy does not drift."""
        return self.crash is None and (self.drift is None or self.drift.verdict is Verdict.PASSED)

    @property
    def nanoseconds_per_day(self) -> float | None:
        """Speed with this time step."""
        speed = self.steps_per_second
        return None if speed is None else speed * self.protocol.timestep * 1e-6 * 86400

    def to_json(self) -> dict[str, Any]:
        """All numbers, with units in the names where they are not said above."""
        estimates = {"temperature_K": self.temperature, "pressure_GPa": self.pressure, "volume_A3": self.volume}
        squared = {name: each.times(SQUARE_CENTIMETRES).to_json() for name, each in self.diffusion.items()}
        return {
            "model": self.model,
            "passed": self.passed,
            "atoms": self.atoms,
            "time_ps": self.protocol.picoseconds(self.steps),
            "steps": self.steps,
            "crashed": self.crash and self.crash.to_json(),
            "drift_meV_per_atom_per_ps": self.drift and self.drift.to_json(),
            **{name: each and each.to_json() for name, each in estimates.items()},
            "rdf": [each.to_json() for each in self.distributions],
            "diffusion_A2_per_ps": {name: each.to_json() for name, each in self.diffusion.items()},
            "diffusion_cm2_per_s": squared,
            "vdos": self.spectrum and self.spectrum.to_json(),
            "steps_per_second": self.steps_per_second,
            "ns_per_day": self.nanoseconds_per_day,
            "copies": [each.summary() for each in self.copies],
            **self.conditions,
            **self.identity,
        }

    def summary(self) -> dict[str, Any]:
        """``steps``, ``crashed``, ``drift_meV_per_atom_per_ps``, ``temperature_K``."""
        return {
            "steps": self.steps,
            "crashed": self.crash and self.crash.to_json(),
            "drift_meV_per_atom_per_ps": self.drift and self.drift.to_json(),
            "temperature_K": self.temperature and self.temperature.to_json(),
        }


@dataclass(frozen=True)
class Measuring:
    """A way from the files of dynamics to numbers.

    Attributes:
        start: the structure.
        protocol: what was done with it.
        analysis: what is looked at.
    """

    start: Atoms
    protocol: DynamicsProtocol
    analysis: DynamicsAnalysis = DynamicsAnalysis()

    def of(self, model: str, files: CopyFiles, saved: Saved, conditions: Mapping[str, Any]) -> ModelDynamics:
        """Everything that the files of one copy say."""
        steps, frames = files.steps(), files.frames()
        count = len(steps["step"])
        numbers = self._of_steps(steps) if count else {}
        shapes = self._of_frames(frames) if len(frames) > 1 else {}
        speed = saved.timed / saved.seconds if saved.seconds else None
        return ModelDynamics(
            model,
            len(self.start),
            self.protocol,
            conditions,
            count,
            saved.crash,
            steps_per_second=speed,
            **numbers,
            **shapes,
        )

    def _of_steps(self, steps: Mapping[str, np.ndarray]) -> dict[str, Any]:
        times, conserved = steps["time_ps"], steps["conserved_eV"] / len(self.start)
        known = np.isfinite(conserved).all() and len(times) > 1
        moves, pressed = self.protocol.ensemble.moves_cell, np.isfinite(steps["pressure_GPa"]).all()
        curves = {"time_ps": times, "temperature_K": steps["temperature_K"]}
        if known:
            curves["conserved_meV_per_atom"] = 1e3 * (conserved - conserved[0])
        return {
            "drift": Drift.of(times, conserved, self.analysis.drift_limit) if known else None,
            "temperature": mean(steps["temperature_K"]),
            "pressure": mean(steps["pressure_GPa"]) if pressed else None,
            "volume": mean(steps["volume_A3"]) if moves else None,
            "curves": curves,
        }

    def _of_frames(self, frames: Sequence[Atoms]) -> dict[str, Any]:
        interval = self.protocol.picoseconds(self.protocol.interval)
        reach = farthest(self.start, self.analysis.reach)
        pairs = pairs_of(self.start, self.analysis.pairs)
        moves = self.protocol.ensemble.moves_cell
        return {
            "distributions": () if reach is None else distributions(frames, pairs, reach),
            "diffusion": {} if moves else diffusion_by_element(frames, interval),
            "spectrum": vibrations(velocities_of(frames), self.start.get_masses(), interval),
        }
