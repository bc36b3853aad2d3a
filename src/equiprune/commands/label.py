"""Making labels to train on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import equiprune as ep
from equiprune.commands.opening import check_device, check_suffix, open_model, read_model
from equiprune.commands.options.labelling import (
    NO_COPIES,
    NO_DYNAMICS,
    NO_PROBES,
    NO_RELAXATIONS,
    NO_SUBSTITUTIONS,
    NOTHING_LEFT_OUT,
    CopyOptions,
    DynamicsOptions,
    ProbeOptions,
    RelaxationOptions,
    ScreeningOptions,
    SubstitutionOptions,
)
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.sharing import BY_ITSELF, Launched, SharingOptions, device_of
from equiprune.commands.options.values import Bare, Device, Dtype, NotNegative, Output, Positive, Switch
from equiprune.commands.resuming import resumable
from equiprune.commands.sharing import SharedRequest, check_unfinished
from equiprune.commands.stages import Kind, Product, Takes, parent
from equiprune.errors import StructureError, TargetError
from equiprune.files.atomic import check_writable
from equiprune.files.settings import to_json
from equiprune.files.shared_work import ALONE, Share, Shared
from equiprune.labelling.job import LabellingJob, LabellingModels, remaining
from equiprune.labelling.label_file import LabelFile
from equiprune.labelling.provenance import NO_PROVENANCE, Provenance
from equiprune.labelling.screening import Screening
from equiprune.labelling.shared_job import label_together
from equiprune.labelling.tally import Tally, ended_said, left_out_said
from equiprune.labelling.teachers import CalculatorTeacher, PotentialTeacher, Teacher, names_calculator
from equiprune.potentials.hessian import Probes
from equiprune.progress import Display, Task, unseen
from equiprune.structures.reading import check_apart, fingerprint

TeacherName = Annotated[str, Takes.of(Product.MODEL, rule=parent, other=names_calculator)]
StudentName = Annotated[str, Takes.of(Product.MODEL)]
"""A model; in a pipeline none unless it is named."""


@dataclass(frozen=True)
class Labelled:
    """Structures with labels of a model.

    Attributes:
        structures: how many there are.
        path: the file they are in.
        sha256: of each model that took part: ``teacher``, ``student`` and ``second_teacher``.
        probes: what its Hessian was multiplied by, if it was.
        walks: how many a student made; None without one.
        tally: walks that ended early, and structures that were left out, by why.
        screening: which labels were to be left out.
    """

    structures: int
    path: Path
    sha256: Mapping[str, str]
    probes: Probes | None
    walks: int | None
    tally: Tally
    screening: Screening

    @property
    def teacher_sha256(self) -> str:
        """The sha256 of the model that labelled them."""
        return self.sha256["teacher"]

    @property
    def may_lack(self) -> bool:
        """True if structures could be left out."""
        return self.walks is not None or self.screening.asked

    def to_json(self) -> dict[str, Any]:
        value = {"structures": self.structures, **_hashes(self.sha256), "written": str(self.path)}
        value |= {"hessian": to_json(self.probes)} if self.probes else {}
        value |= {} if self.walks is None else {"walks": self.walks, "walks_ended": dict(self.tally.walks_ended)}
        return value | ({"left_out": dict(self.tally.left_out)} if self.may_lack else {})


@dataclass(frozen=True)
class Label(SharedRequest[Labelled]):
    """Write structures with labels of a model: energy, forces, stress, atom energies. Interrupted, it goes on.

    Attributes:
        model: the teacher: an alias, an upstream checkpoint, a directory that equiprune wrote, or module:callable for
            any ASE calculator, e.g. ase.calculators.emt:EMT.
        data: structures; labels they have are left out, other text and numbers of their info are kept.
        output: labelled structures (.extxyz).
        options: what to call module:callable with, as JSON.
        student: a model that makes the molecular dynamics and relaxations instead of the teacher, which labels them.
        origins: also write which structure of the data each one is from, and how it came of it (info entries
            labelled_from and labelled_as); with a student and where labels may be left out that is always written.
        seed: of distortions and dynamics, and of the choice of elements, rows and vectors.
        limit: use only the first this many structures.
        dtype: precision of the models; that of their files unless given.
    """

    stage: ClassVar[Kind] = Kind("labelled.extxyz", Product.DATA, keeps="{output}.partial")

    model: TeacherName
    data: Bare
    _: KW_ONLY
    output: Output
    options: str = "{}"
    student: StudentName | None = None
    other: SubstitutionOptions = NO_SUBSTITUTIONS
    copy: CopyOptions = NO_COPIES
    motion: DynamicsOptions = NO_DYNAMICS
    relaxation: RelaxationOptions = NO_RELAXATIONS
    kept: ScreeningOptions = NOTHING_LEFT_OUT
    hessian: ProbeOptions = NO_PROBES
    origins: Switch = False
    seed: NotNegative = 0
    limit: Positive | None = None
    dtype: Dtype | None = None
    device: Device = "cpu"
    sharing: SharingOptions = BY_ITSELF
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_suffix(self.output, "Labelled structures", ".extxyz", ".xyz")
        if self.student is not None and not self._job.walks:
            raise TargetError(
                "A `student` makes molecular dynamics or relaxations: give `frames`, `relaxation_frames`."
            )
        if names_calculator(self.model):
            self._check_calculator()
            return
        if self.options != "{}":
            raise TargetError("`options` are for a calculator named as module:callable. Leave them out.")
        check_device(self.device)

    def _check_calculator(self) -> None:
        given = {"dtype": self.dtype, "device": self.device != "cpu", "head": self.opening.head}
        given |= {"trust": self.opening.trust, "adapter": self.opening.adapter}
        vain = [f"`{name}`" for name, value in given.items() if value]
        if vain and not self._other_models:
            raise TargetError(
                f"{self.model} is a calculator, and {', '.join(vain)} means something to a model only. Leave it out; "
                "what a calculator understands goes into `options`."
            )
        check_device(self.device)
        if self._job.probes is not None:
            raise TargetError(
                f"{self.model} gives no products of its Hessian, only a model does. Leave out `hessian_rows` and "
                "`hessian_probes`."
            )
        if self._job.substitution.copies and not self._job.substitution.elements and not self._other_models:
            raise TargetError(f"{self.model} does not say which elements it knows. Give `substitute_elements`.")
        _read_options(self.options)

    @property
    def _other_models(self) -> list[str]:
        """Those besides the teacher that are no calculators."""
        return [name for name in (self.student, self.kept.second_teacher) if name and not names_calculator(name)]

    @property
    def _job(self) -> LabellingJob:
        seed, relaxation, screening = self.seed, self.relaxation.relaxation(), self.kept.screening()
        says_where_from = self.origins or self.student is not None or relaxation.frames or screening.asked
        return LabellingJob(
            self.copy.augmentation(seed),
            self.motion.dynamics(seed),
            self.hessian.chosen(seed),
            self.other.substitution(seed),
            relaxation,
            screening,
            Provenance(self.data.name, _short(self.student or self.model)) if says_where_from else NO_PROVENANCE,
        )

    def take_part(self, place: Launched, display: Display = unseen) -> Labelled:
        """Label; what an interrupted attempt has finished is kept.

        Raises:
            EquipruneError: interrupted, or a file, a structure or a model that cannot be used, or nothing is left.
        """
        share = place.share
        check_unfinished(place, self.output)
        check_writable(self.output)
        check_apart(self.output, [self.data])
        models, job = self._models(device_of(self.device, place.local)), self._job
        made_as = {**_hashes(models.sha256), "as": [self.opening.head, self.dtype, self.device]}
        settings = {**made_as, "data_sha256": fingerprint(self.data), "limit": self.limit, **job.described()}
        file = LabelFile(self.output, settings)
        label = self._label_alone if share == ALONE else partial(self._label_together, share=share)
        with resumable(file.partial):
            structures, tally = label(models, file, display)
        walks = len(job.walks) * tally.starts if self.student is not None else None
        return Labelled(structures, self.output, models.sha256, job.probes, walks, tally, job.screening)

    def _label_alone(self, models: LabellingModels, file: LabelFile, display: Display) -> tuple[int, Tally]:
        """Number of labelled structures, and their tally."""
        job, source, done = self._job, islice(ep.read_structures(self.data), self.limit), file.written()
        begun = tally = done.tally or Tally.of(done.structures, job.visits)
        with display(Task("label", self.limit and self.limit * job.each)) as [step]:
            step(begun.visits)
            for batch, tally in remaining(models, source, job, begun, step):
                done = file.append(batch, done, tally)
        if nothing := self._nothing_left(done.structures, tally):
            file.discard()
            raise nothing
        file.finish(done)
        return done.structures, tally

    def _label_together(
        self, models: LabellingModels, file: LabelFile, display: Display, share: Share
    ) -> tuple[int, Tally]:
        """The same with other processes."""
        job, structures = self._job, ep.open_structures(self.data)[: self.limit]
        shared = Shared(file.partial, file.settings, share)
        with display(Task("label", len(structures) * job.each)) as [step]:
            return label_together(models, structures, job, shared, self.output, step, self._nothing_left)

    def _nothing_left(self, structures: int, tally: Tally) -> StructureError | None:
        """An error if no structure is left, or none of those of a student; None otherwise."""
        lost = [*ended_said(tally), *left_out_said(tally, self._job.screening)]
        if structures and (self.student is None or tally.frames or not lost):
            return None
        what = "structure" if self.student is None else f"frame that {_short(self.student)} reached"
        return StructureError(f"Not one {what} is left. {' '.join(lost)} Nothing was written. {self._instead}")

    @property
    def _instead(self) -> str:
        """Advice for when nothing is left."""
        if self.student is None:
            return "Allow larger values, mend a calculator that failed, or give other structures."
        return (
            "Train the student first on labels of structures and distorted copies (without `student`), or lower "
            "`temperature`, `interval` or `relaxation_steps`."
        )

    def _models(self, device: str) -> LabellingModels:
        second = self.kept.second_teacher
        return LabellingModels(
            self._teacher(device),
            self._another(self.student, device) if self.student is not None else None,
            None if second is None else self._second(second, device),
        )

    def _teacher(self, device: str) -> Teacher:
        """A model, or the calculator that ``module:callable`` gives."""
        if names_calculator(self.model):
            return CalculatorTeacher.named(self.model, _read_options(self.options))
        return PotentialTeacher(open_model(self.model, self.dtype, self.opening, device=device))

    def _second(self, name: str, device: str) -> Teacher:
        if names_calculator(name):
            return CalculatorTeacher.named(name)
        return PotentialTeacher(self._another(name, device))

    def _another(self, name: str, device: str) -> ep.Potential:
        """A model besides the teacher: a head is for those that have heads, an adapter for the teacher."""
        opening = replace(self.opening, adapter=None)
        has_heads = bool(read_model(name, opening)[1].architecture.heads)
        return open_model(name, self.dtype, opening if has_heads else opening.headless, device=device)


def _hashes(sha256: Mapping[str, str]) -> dict[str, str]:
    """Those of models as entries of JSON."""
    return {f"{model}_sha256": value for model, value in sha256.items()}


def _short(model: str) -> str:
    """A model's name as structures say it: that of a file, or of a directory and the one it is in."""
    path = Path(model)
    return path.name if path.suffix else "/".join(path.parts[-2:])


def _read_options(options: str) -> dict[str, Any]:
    try:
        chosen = json.loads(options)
    except json.JSONDecodeError as error:
        raise TargetError(f"`options` '{options}' is not JSON ({error}). Give e.g. '{{\"epsilon\": 0.5}}'.") from None
    if not isinstance(chosen, dict):
        raise TargetError(f"`options` '{options}' is not a JSON object. Give e.g. '{{\"epsilon\": 0.5}}'.")
    return chosen
