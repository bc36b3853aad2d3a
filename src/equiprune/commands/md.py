"""Molecular dynamics of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms

import equiprune as ep
from equiprune.commands.opening import check_compared, open_models
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.protocol import USUAL_ANALYSIS, USUAL_PROTOCOL, AnalysisOptions, ProtocolOptions
from equiprune.commands.options.values import Bare, Device, Dtype, Models, Output, Positive
from equiprune.commands.request import Request
from equiprune.commands.resuming import resumable
from equiprune.commands.stages import RESULT, Kind, Product
from equiprune.commands.threads import threads_of_torch
from equiprune.evaluation.dynamics.tables import compared
from equiprune.files.atomic import check_writable
from equiprune.progress import Display, Task, unseen
from equiprune.structures.reading import check_apart


@dataclass(frozen=True)
class Moved:
    """Dynamics of every model.

    Attributes:
        found: of each model, in their order.
        structure: that was moved.
        folder: trajectories, ``dynamics.json`` and ``dynamics.png``.
    """

    found: Sequence[ep.ModelDynamics]
    structure: Atoms
    folder: Path

    @property
    def passed(self) -> bool:
        """True if no model crashed, and all conserve what they must."""
        return all(each.passed for each in self.found)

    def to_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "models": compared(self.found), "written": str(self.folder)}


@dataclass(frozen=True)
class Md(Request[Moved]):
    """Molecular dynamics of models from the same start, side by side. Interrupted, the same command goes on.

    Attributes:
        models: aliases, upstream checkpoints, or directories that equiprune wrote; differences are from the first.
        structure: the first one of a file is moved.
        output: a folder for trajectories, dynamics.json and a picture.
        repeat: repeat the cell so many times along each of its vectors.
        dtype: precision of the models.
        threads: of torch; its own choice unless given.
    """

    stage: ClassVar[Kind] = Kind("dynamics", Product.NUMBERS, RESULT, keeps="{output}.partial")

    models: Models
    _: KW_ONLY
    structure: Bare
    output: Output
    protocol: ProtocolOptions = USUAL_PROTOCOL
    analysis: AnalysisOptions = USUAL_ANALYSIS
    repeat: Positive = 1
    dtype: Dtype = "float32"
    threads: Positive | None = None
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_compared(self.models, self.device)

    def run(self, display: Display = unseen) -> Moved:
        """Move the atoms with every model; what an interrupted attempt has finished is kept.

        Raises:
            EquipruneError: interrupted, or a file, a structure or a model that cannot be used.
        """
        check_writable(self.output)
        check_apart(self.output, [self.structure])
        atoms = next(ep.read_structures(self.structure))
        atoms = atoms.repeat(self.repeat) if self.repeat > 1 else atoms
        models = open_models(self.models, self.dtype, self.opening, self.device)
        protocol, partial = self.protocol.protocol(), self.output.with_name(f"{self.output.name}.partial")
        steps = (protocol.steps - protocol.first) * protocol.copies * len(models)
        with threads_of_torch(self.threads), resumable(partial), display(Task("md", steps, 200)) as [step]:
            found = ep.molecular_dynamics(
                models,
                atoms,
                self.output,
                protocol,
                engine=self.protocol.chosen_engine(),
                analysis=self.analysis.analysis(),
                progress=step,
            )
        return Moved(tuple(found), atoms, self.output)
