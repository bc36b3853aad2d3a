"""Checking models."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter

import equiprune as ep
from equiprune.commands.opening import check_device, check_suffix, open_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Device, Model, OptionalOutput, Positive
from equiprune.commands.request import Request, remarks
from equiprune.commands.stages import RESULT, Kind, Product, Takes, pruned_from
from equiprune.errors import TargetError
from equiprune.files.atomic import check_writable, read_json, write_json, write_text
from equiprune.progress import Display, Task, unseen
from equiprune.report.measurements import measurements
from equiprune.report.results import Identity, recognised
from equiprune.verification.certificate import CHECKS
from equiprune.verification.measurement import Measurement

Results = Annotated[list[Path], Parameter(negative="", consume_multiple=True), Takes.of(Product.NUMBERS)]
"""JSON files of commands that measure models."""


@dataclass(frozen=True)
class Certify(Request[ep.Certificate]):
    """Check a model in float64: exactly its pruned parent, equivariant, conservative, smooth. Exit code 1 if not.

    Attributes:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        parent: the model it was pruned from.
        output: also write the certificate (.json or .md).
        results: JSON of evaluate, benchmark, md, properties or discovery, whose numbers of this model are shown too.
        nve_steps: length of the molecular-dynamics check, in time steps (0.15 fs for H, 0.5 fs for C).
    """

    stage: ClassVar[Kind] = Kind("certificate.md")

    model: Model
    _: KW_ONLY
    parent: Annotated[str | None, Takes.of(Product.MODEL, rule=pruned_from)] = None
    output: OptionalOutput = None
    results: Results | None = None
    nve_steps: Positive = 40
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_device(self.device)
        if self.output is not None:
            check_suffix(self.output, "A certificate", ".json", ".md")

    def run(self, display: Display = unseen) -> ep.Certificate:
        """Check, and write the certificate, whether it is passed or not."""
        if self.output is not None:
            check_writable(self.output)
        child = open_model(self.model, None, self.opening, any_head=True, device=self.device)
        if child.head is not None and self.opening.head is None:
            heads = ", ".join(child.architecture.heads)
            remarks.info(f"Checking head {child.head}; `head` chooses another: {heads}.")
        headless = self.opening.headless
        original = open_model(self.parent, None, headless, any_head=True, device=self.device) if self.parent else None
        measured = tuple(each for path in self.results or () for each in _measured(path, child, original))
        with display(Task("certify", CHECKS)) as [step]:
            certificate = ep.certify(child, original, nve_steps=self.nve_steps, progress=step)
        certificate = replace(certificate, measured=measured)
        if self.output is not None and self.output.suffix == ".json":
            write_json(self.output, certificate.to_json(), new=True)
        elif self.output is not None:
            write_text(self.output, certificate.to_markdown(), new=True)
        return certificate


def _measured(path: Path, child: ep.Potential, parent: ep.Potential | None) -> list[Measurement]:
    """Numbers of a model in a result, beside its parent's.

    Raises:
        CheckpointError: no JSON.
        TargetError: no result of a command, or of other models.
    """
    found = recognised(read_json(path, "result"))
    source = path.parent.name if path.name == RESULT else path.name
    original = None if parent is None else _identity(parent)
    measured = [] if found is None else measurements(found, source, _identity(child), original)
    if measured:
        return measured
    digest = child.checkpoint.sha256
    head = f", head {child.head}" if child.head else ""
    raise TargetError(
        f"'{path}' has no numbers of this model (sha256 {digest[:12]}{head}). Give what evaluate, benchmark, md, "
        "properties or discovery wrote about the same file."
    )


def _identity(model: ep.Potential) -> Identity:
    return Identity(sha256=model.checkpoint.sha256, head=model.head)
