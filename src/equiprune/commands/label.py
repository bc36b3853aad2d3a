"""Making labels to train on."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import equiprune as ep
from equiprune.commands.opening import check_device, check_suffix, open_model
from equiprune.commands.options.labelling import (
    NO_COPIES,
    NO_DYNAMICS,
    NO_PROBES,
    NO_SUBSTITUTIONS,
    CopyOptions,
    DynamicsOptions,
    ProbeOptions,
    SubstitutionOptions,
)
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Data, Device, Dtype, NotNegative, Output, Positive
from equiprune.commands.request import Request
from equiprune.commands.resuming import resumable
from equiprune.commands.stages import Kind, Product, Takes, parent
from equiprune.errors import TargetError
from equiprune.files.atomic import check_writable
from equiprune.files.settings import to_json
from equiprune.labelling.job import BATCH_ATOMS, LabellingJob, remaining
from equiprune.labelling.label_file import LabelFile
from equiprune.labelling.teachers import CalculatorTeacher, PotentialTeacher, Teacher, names_calculator
from equiprune.potentials.hessian import Probes
from equiprune.progress import Display, Task, unseen
from equiprune.structures.batching import batches
from equiprune.structures.reading import check_apart, fingerprint

TeacherName = Annotated[str, Takes.of(Product.MODEL, rule=parent, other=names_calculator)]


@dataclass(frozen=True)
class Labelled:
    """Structures with labels of a model.

    Attributes:
        structures: how many there are.
        teacher_sha256: of the model that labelled them.
        path: the file they are in.
        probes: what its Hessian was multiplied by, if it was.
    """

    structures: int
    teacher_sha256: str
    path: Path
    probes: Probes | None

    def to_json(self) -> dict[str, Any]:
        value = {"structures": self.structures, "teacher_sha256": self.teacher_sha256, "written": str(self.path)}
        return value | ({"hessian": to_json(self.probes)} if self.probes else {})


@dataclass(frozen=True)
class Label(Request[Labelled]):
    """Write structures with labels of a model: energy, forces, stress. Interrupted, the same command goes on.

    Attributes:
        model: the teacher: an alias, an upstream checkpoint, a directory that equiprune wrote, or module:callable for
            any ASE calculator, e.g. ase.calculators.emt:EMT.
        data: structures; labels they have are left out, other text and numbers of their info are kept.
        output: labelled structures (.extxyz).
        options: what to call module:callable with, as JSON.
        seed: of distortions and dynamics, and of the choice of elements, rows and vectors.
        limit: use only the first this many structures.
        dtype: precision of a model; that of its file unless given.
    """

    stage: ClassVar[Kind] = Kind("labelled.extxyz", Product.DATA, keeps="{output}.partial")

    model: TeacherName
    data: Data
    _: KW_ONLY
    output: Output
    options: str = "{}"
    other: SubstitutionOptions = NO_SUBSTITUTIONS
    copy: CopyOptions = NO_COPIES
    motion: DynamicsOptions = NO_DYNAMICS
    hessian: ProbeOptions = NO_PROBES
    seed: NotNegative = 0
    limit: Positive | None = None
    dtype: Dtype | None = None
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_suffix(self.output, "Labelled structures", ".extxyz", ".xyz")
        if names_calculator(self.model):
            self._check_calculator()
            return
        if self.options != "{}":
            raise TargetError("`options` are for a calculator named as module:callable. Leave them out.")
        check_device(self.device)

    def _check_calculator(self) -> None:
        given = {"dtype": self.dtype, "device": self.device != "cpu", "head": self.opening.head}
        given |= {"trust": self.opening.trust, "adapter": self.opening.adapter}
        if vain := [f"`{name}`" for name, value in given.items() if value]:
            raise TargetError(
                f"{self.model} is a calculator, and {', '.join(vain)} means something to a model only. Leave it out; "
                "what a calculator understands goes into `options`."
            )
        if self._job.probes is not None:
            raise TargetError(
                f"{self.model} gives no products of its Hessian, only a model does. Leave out `hessian_rows` and "
                "`hessian_probes`."
            )
        if self._job.substitution.copies and not self._job.substitution.elements:
            raise TargetError(f"{self.model} does not say which elements it knows. Give `substitute_elements`.")
        _read_options(self.options)

    @property
    def _job(self) -> LabellingJob:
        seed, other = self.seed, self.other.substitution(self.seed)
        return LabellingJob(self.copy.augmentation(seed), self.motion.dynamics(seed), self.hessian.chosen(seed), other)

    def run(self, display: Display = unseen) -> Labelled:
        """Label; what an interrupted attempt has finished is kept.

        Raises:
            EquipruneError: interrupted, or a file, a structure or a model that cannot be used.
        """
        check_writable(self.output)
        check_apart(self.output, [self.data])
        teacher = self._teacher()
        made_as = {"teacher_sha256": teacher.fingerprint, "as": [self.opening.head, self.dtype, self.device]}
        settings = {**made_as, "data_sha256": fingerprint(self.data), "limit": self.limit, **self._job.described()}
        file, limit = LabelFile(self.output, settings), self.limit
        source = islice(ep.read_structures(self.data), limit)
        done = file.written()
        with resumable(file.partial), display(Task("label", limit and limit * self._job.each)) as [step]:
            step(done.structures)
            rest = remaining(teacher, source, self._job, done.structures, step)
            for batch in batches(rest, BATCH_ATOMS):  # those of the teacher, or the bits would depend on interruptions
                done = file.append(batch, done)
            file.finish(done)
        return Labelled(done.structures, teacher.fingerprint, self.output, self._job.probes)

    def _teacher(self) -> Teacher:
        """A model, or the calculator that ``module:callable`` gives."""
        if names_calculator(self.model):
            return CalculatorTeacher.named(self.model, _read_options(self.options))
        return PotentialTeacher(open_model(self.model, self.dtype, self.opening, device=self.device))


def _read_options(options: str) -> dict[str, Any]:
    try:
        chosen = json.loads(options)
    except json.JSONDecodeError as error:
        raise TargetError(f"`options` '{options}' is not JSON ({error}). Give e.g. '{{\"epsilon\": 0.5}}'.") from None
    if not isinstance(chosen, dict):
        raise TargetError(f"`options` '{options}' is not a JSON object. Give e.g. '{{\"epsilon\": 0.5}}'.")
    return chosen
