"""Molecular dynamics of several models, one after another, from the same start by the same protocol."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from equiprune.adapters.precision import dtype_name
from equiprune.errors import StructureError
from equiprune.evaluation.dynamics.engines import AseEngine, Engine
from equiprune.evaluation.dynamics.figure import plot_dynamics
from equiprune.evaluation.dynamics.measured import DynamicsAnalysis, Measuring, ModelDynamics
from equiprune.evaluation.dynamics.pooling import pooled
from equiprune.evaluation.dynamics.protocol import DynamicsProtocol
from equiprune.evaluation.dynamics.run import Run
from equiprune.evaluation.dynamics.tables import compared
from equiprune.evaluation.dynamics.trajectory import TrajectoryFiles
from equiprune.files.atomic import check_writable, holding, write_json
from equiprune.files.recorded_folder import RecordedFolder
from equiprune.labelling.unlabelled import without_labels
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.structures.global_inputs import given
from equiprune.structures.sequences import Origin


def molecular_dynamics(
    models: Mapping[str, Potential],
    structure: Atoms,
    folder: Path,
    protocol: DynamicsProtocol | None = None,
    *,
    engine: Engine | None = None,
    analysis: DynamicsAnalysis | None = None,
    progress: Progress = silent,
) -> list[ModelDynamics]:
    """Move the same atoms with every model, and measure what comes of it.

    Velocities, friction and thermostats draw the same numbers for every model; copies of the structure each draw their
    own, and their results are pooled. A model whose dynamics crashes does not end that of the others. Everything is
    kept in ``folder`` with ``.partial`` behind its name until all is there, and the same call goes on from it, with the
    same bits as without an interruption.

    Args:
        models: by name; differences are those from the first.
        structure: of two atoms or more, without fixed ones; labels are left out.
        folder: for trajectories, ``dynamics.json`` and ``dynamics.png``; must not exist.
        protocol: 2 ps at constant energy and 300 K after 0.5 ps of equilibration, unless given.
        engine: ASE unless given.
        analysis: what is looked at.
        progress: called with numbers of steps.

    Raises:
        StructureError: a model cannot evaluate the structure, or there is nothing to move.
        TargetError: the structure or a model does not allow the ensemble, the engine, pairs or distances.
        OutputError: the folder exists, or holds other dynamics, or cannot be written.
    """
    protocol, engine, analysis = protocol or DynamicsProtocol(), engine or AseEngine(), analysis or DynamicsAnalysis()
    start = _start(structure, models.values())
    simulation = _Simulation(start, protocol, engine, folder.with_name(f"{folder.name}.partial"))
    check_writable(folder)
    analysis.check(start)
    for potential in models.values():
        potential.graph([start], [Origin(None)])
        simulation.check(potential)
    simulation.begin(models)
    with holding(simulation.folder, f"Another process runs dynamics in '{simulation.folder}'."):
        measuring = Measuring(start, protocol, analysis)
        found = [simulation.of(i, name, models[name], measuring, progress) for i, name in enumerate(models)]
        write_json(simulation.folder / "dynamics.json", compared(found))
        plot_dynamics(found, simulation.folder / "dynamics.png")
        check_writable(folder)
        os.replace(simulation.folder, folder)
    return found


def _start(structure: Atoms, models: Iterable[Potential]) -> Atoms:
    """The structure without labels; raises `StructureError` where there is nothing to move.

    Of its ``info`` there is what models read.
    """
    if len(structure) < 2:
        raise StructureError(f"Dynamics needs two atoms or more; the structure has {len(structure)}. Repeat its cell.")
    if structure.constraints:
        raise StructureError("The structure has fixed atoms, and dynamics moves all. Remove its constraints.")
    start = without_labels(structure)
    if structure.has("masses"):
        start.set_masses(structure.get_masses())
    start.info = given(structure, [each for model in models for each in model.architecture.global_inputs])
    return start


@dataclass(frozen=True)
class _Simulation:
    """Things that all models share."""

    start: Atoms
    protocol: DynamicsProtocol
    engine: Engine
    folder: Path

    def check(self, potential: Potential) -> None:
        """Raise `EquipruneError` where the engine or the ensemble cannot be had."""
        atoms = self.start.copy()
        atoms.calc = potential.calculator()
        self.engine.check(self.protocol.ensemble, atoms)

    def begin(self, models: Mapping[str, Potential]) -> None:
        """Make the folder, or see that what is in it is of the same dynamics."""
        settings = {
            "protocol": self.protocol,
            "engine": self.engine.name,
            "structure_sha256": _fingerprint(self.start),
            "models": [[name, *_described(potential)] for name, potential in models.items()],
        }
        other = "dynamics of other models, another structure or another protocol"
        RecordedFolder(self.folder, settings, "settings", other).begin()

    def of(
        self, number: int, name: str, potential: Potential, measuring: Measuring, progress: Progress
    ) -> ModelDynamics:
        """The dynamics of one model, from wherever it stands."""
        short = re.sub(r"[^\w.-]+", "_", Path(name).name) or "model"
        conditions = {
            "engine": self.engine.name,
            "dtype": dtype_name(potential.dtype),
            "device": potential.device.type,
            "threads": torch.get_num_threads(),
        }
        copies = []
        for run in self._runs(self.folder / f"{number}-{short}"):
            saved = run.finish(potential.calculator(), progress)
            for files, each in zip(run.files.copies, saved, strict=True):
                copies.append(measuring.of(name, files, each, conditions))
        identity = {"sha256": potential.checkpoint.sha256, "head": potential.head}
        return replace(pooled(copies), identity=identity)

    def _runs(self, folder: Path) -> Iterator[Run]:
        """The copies in one run if the engine moves them together, else each in a run of its own."""
        count = self.protocol.copies
        if count == 1:
            yield Run(self.start, self.protocol, TrajectoryFiles(folder), self.engine)
            return
        names = tuple(f"copy-{number}" for number in range(count))
        if self.engine.together:
            yield Run(self.start, self.protocol, TrajectoryFiles(folder, names), self.engine)
            return
        for number, name in enumerate(names):
            yield Run(self.start, self.protocol, TrajectoryFiles(folder / name), self.engine, first=number)


def _described(potential: Potential) -> Sequence[Any]:
    """Everything that the forces of a potential depend on."""
    return [potential.checkpoint.sha256, potential.head, dtype_name(potential.dtype), potential.device.type]


def _fingerprint(atoms: Atoms) -> str:
    """sha256 of atoms, their places, masses and cell, and of what else models read."""
    arrays = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses())
    found = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
    found.update(b"".join(f"{key}={atoms.info[key]}".encode() for key in sorted(atoms.info)))
    return found.hexdigest()
