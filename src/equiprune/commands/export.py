"""Moving models between formats."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

import equiprune as ep
from equiprune.commands.opening import open_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Model, Output
from equiprune.commands.request import Request
from equiprune.commands.stages import Mark
from equiprune.errors import OutputError, TargetError
from equiprune.evaluation.engine_files import converted, engine_of_file
from equiprune.files.atomic import check_writable, write_text
from equiprune.progress import Display, unseen
from equiprune.pruning.targets.named import Elements


@dataclass(frozen=True)
class Exported:
    """Files of a model.

    Attributes:
        files: the model first: written, read back and compared.
        script: with which LAMMPS runs it.
    """

    files: tuple[Path, ...]
    script: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {"written": [*map(str, self.files), *filter(None, [self.script and str(self.script)])]}


@dataclass(frozen=True)
class Export(Request[Exported]):
    """Write a model in another format, chosen by the suffix, and compare it with the stock tool before saying done.

    Attributes:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        output: .pth for SevenNet, .model for MACE, .nequip.zip for NequIP, .nqx or .pt for Nequix, .pt for eSCN, no
            suffix for equiprune's own directory; .symmetrix.json for what Symmetrix makes of a MACE.
        lammps: an input script with which LAMMPS runs it, beside it, e.g. in.lammps.
        elements: of the script, in the order of the types of the data file, e.g. Li,P,S; all of the model unless given.
    """

    model: Model
    _: KW_ONLY
    output: Output
    lammps: Annotated[Path | None, Mark.WRITTEN] = None
    elements: str | None = None
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        if self.lammps is None:
            if self.elements is not None:
                raise TargetError(
                    "`elements` are for the input script of LAMMPS: give `lammps` too, or leave them out."
                )
            return
        if self.lammps.absolute().parent != self.output.absolute().parent or self.lammps.name == self.output.name:
            raise OutputError(
                f"The input script goes beside the model: `lammps` '{self.output.parent / 'in.lammps'}' for example, "
                f"not '{self.lammps}'."
            )
        if self.elements is not None and not self._numbers:
            raise TargetError("Name at least one of `elements`, or leave it out for all of the model.")

    @property
    def _numbers(self) -> tuple[int, ...]:
        return Elements.parse(self.elements).numbers if self.elements is not None else ()

    def run(self, display: Display = unseen) -> Exported:
        """Write, read back and compare; the script comes last."""
        check_writable(self.output)
        engine = engine_of_file(self.output)
        if self.lammps is None:
            potential = open_model(self.model, None, self.opening, any_head=engine is None)
            return Exported(ep.save(potential, self.output) if engine is None else converted(potential, self.output))
        if engine is not None:
            raise OutputError(
                f"`lammps` is for models in upstream's format, and '{self.output.name}' is what {engine.name} reads. "
                "Write the script beside an upstream file, or leave it out."
            )
        check_writable(self.lammps)
        potential = open_model(self.model, None, self.opening)
        text = self._script(potential, self.lammps)
        files = ep.save(potential, self.output)
        write_text(self.lammps, text, new=True)
        return Exported(files, self.lammps)

    def _script(self, potential: ep.Potential, path: Path) -> str:
        """The text of the input script."""
        text = ep.lammps_input(potential, self.output.name, path.name, self._numbers)
        if not self.output.suffix:
            raise OutputError(
                f"LAMMPS needs a model in upstream's format, and '{self.output}' has no suffix. "
                f"Give it one: {', '.join(potential.adapter.suffixes)}."
            )
        return text
