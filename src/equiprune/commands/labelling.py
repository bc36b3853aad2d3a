"""Making labels to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from ase import Atoms

import equiprune as ep
from equiprune.commands.resuming import resumable
from equiprune.display import progress, show, show_json
from equiprune.errors import TargetError
from equiprune.flags import COMMON, Common, Device, Dtype, NotNegative, Output, Positive
from equiprune.hessian import Probes
from equiprune.opening import check_device, check_suffix, open_model
from equiprune.potential import batches
from equiprune.storage import Progress, check_writable
from equiprune.structure_files import Origin
from equiprune.structures import check_apart, checked, fingerprint
from equiprune.training.label_file import LabelFile
from equiprune.training.labelling import Augmentation, Dynamics, augmented, simulated
from equiprune.training.labelling import label as labelled_by
from equiprune.training.second_derivatives import with_products
from equiprune.training.teachers import CalculatorTeacher, PotentialTeacher, Teacher, names_calculator
from equiprune.training_flags import NO_COPIES, NO_DYNAMICS, NO_PROBES, CopyFlags, DynamicsFlags, ProbeFlags

_BATCH_ATOMS = 256


def label(
    model: str,
    data: Path,
    /,
    *,
    output: Output,
    options: str = "{}",
    copy: CopyFlags = NO_COPIES,
    motion: DynamicsFlags = NO_DYNAMICS,
    hessian: ProbeFlags = NO_PROBES,
    seed: NotNegative = 0,
    limit: Positive | None = None,
    dtype: Dtype | None = None,
    device: Device = "cpu",
    common: Common = COMMON,
) -> int:
    """Write structures with labels of a model: energy, forces, stress. Interrupted, the same command goes on.

    Args:
        model: the teacher: an alias, an upstream checkpoint, a directory that equiprune wrote, or module:callable for
            any ASE calculator, e.g. ase.calculators.emt:EMT.
        data: structures; labels they have are left out, other text and numbers of their info are kept.
        output: labelled structures (.extxyz).
        options: what to call module:callable with, as JSON.
        seed: of distortions and dynamics, and of the choice of rows and vectors.
        limit: use only the first this many structures.
        dtype: precision of a model; that of its file unless given.
    """
    check_label(model, output, options, copy, motion, hessian, seed, dtype, device, common)
    asked = _Asked(copy.augmentation(seed), motion.dynamics(seed), hessian.chosen(seed))
    check_writable(output)
    check_apart(output, [data])
    teacher = _teacher(model, options, dtype, device, common)
    made_as = {"teacher_sha256": teacher.fingerprint, "as": [common.head, dtype, device]}
    settings = {**made_as, "data_sha256": fingerprint(data), "limit": limit, **asked.described()}
    count = _write(LabelFile(output, settings), teacher, islice(ep.read_structures(data), limit), asked, limit)
    value = {"structures": count, "teacher_sha256": teacher.fingerprint, "written": str(output)}
    value |= {"hessian": repr(asked.probes)} if asked.probes else {}
    show_json(value) if common.json else show(f"Labelled {count} structures: {output}")
    return 0


def check_label(
    model: str,
    output: Path,
    options: str,
    copy: CopyFlags,
    motion: DynamicsFlags,
    hessian: ProbeFlags,
    seed: int,
    dtype: Dtype | None,
    device: str,
    common: Common,
) -> None:
    """Refuse what can be refused before anything is opened."""
    check_suffix(output, "Labelled structures", ".extxyz", ".xyz")
    asked = _Asked(copy.augmentation(seed), motion.dynamics(seed), hessian.chosen(seed))
    if not names_calculator(model):
        if options != "{}":
            raise TargetError("--options are for a calculator named as module:callable. Leave them out.")
        check_device(device)
        return
    given = {"--dtype": dtype, "--device": device != "cpu", "--head": common.head, "--trust": common.trust}
    given |= {"--adapter": common.adapter}
    if vain := [flag for flag, value in given.items() if value]:
        raise TargetError(
            f"{model} is a calculator, and {', '.join(vain)} means something to a model only. Leave it out; what a "
            "calculator understands goes into --options."
        )
    if asked.probes is not None:
        raise TargetError(
            f"{model} gives no products of its Hessian, only a model does. Leave out --hessian-rows and "
            "--hessian-probes."
        )
    _read_options(options)


def _read_options(options: str) -> dict[str, Any]:
    try:
        chosen = json.loads(options)
    except json.JSONDecodeError as error:
        raise TargetError(f"--options '{options}' is not JSON ({error}). Give e.g. '{{\"epsilon\": 0.5}}'.") from None
    if not isinstance(chosen, dict):
        raise TargetError(f"--options '{options}' is not a JSON object. Give e.g. '{{\"epsilon\": 0.5}}'.")
    return chosen


@dataclass(frozen=True)
class _Asked:
    """What is labelled besides the structures, and with what besides energy, forces and stress."""

    augmentation: Augmentation
    dynamics: Dynamics
    probes: Probes | None

    @property
    def each(self) -> int:
        """Labelled structures that become of one."""
        return (1 + self.augmentation.copies) * (1 + self.dynamics.frames)

    def described(self) -> dict[str, str]:
        return {"augmentation": repr(self.augmentation), "dynamics": repr(self.dynamics), "hessian": repr(self.probes)}


def _write(file: LabelFile, teacher: Teacher, source: Iterable[Atoms], asked: _Asked, limit: int | None) -> int:
    """Label what an interrupted attempt has not; how many structures there are then."""
    written = file.written()
    with resumable(file.partial), progress("label", limit and limit * asked.each) as step:
        step(written.structures)
        rest = _rest(teacher, source, asked, written.structures, step)
        for batch in batches(rest, _BATCH_ATOMS):  # those of the teacher, or the bits would depend on interruptions
            written = file.append(batch, written)
        file.finish(written)
    return written.structures


def _rest(teacher: Teacher, source: Iterable[Atoms], asked: _Asked, done: int, step: Progress) -> Iterator[Atoms]:
    """Labelled structures that follow those that are done."""
    copies = augmented(_fit(source, teacher), asked.augmentation)
    of_copies = _sources(1 + asked.augmentation.copies)
    structures = simulated(copies, teacher.calculator, asked.dynamics, skip=done, origins=of_copies)
    sources = _sources(asked.each, done)
    labelled = labelled_by(teacher, structures, batch_atoms=_BATCH_ATOMS, progress=step, origins=sources)
    if asked.probes is None or isinstance(teacher, CalculatorTeacher):  # of a calculator none can be asked for
        return labelled
    sources = _sources(asked.each, done)
    return with_products(
        teacher.potential, labelled, asked.probes, batch_atoms=_BATCH_ATOMS, first=done, origins=sources
    )


def _sources(each: int, done: int = 0) -> Iterator[Origin]:
    """Which structure of the file each one comes from, ``each`` of one, after those that are done."""
    return (Origin(number // each) for number in count(done))


def _fit(source: Iterable[Atoms], teacher: Teacher) -> Iterable[Atoms]:
    """Structures that a model can evaluate; of its batches of copies and frames, none knows the number in the file."""
    if isinstance(teacher, CalculatorTeacher):
        return source
    return (atoms for _, atoms in checked(source, teacher.potential.elements))


def _teacher(model: str, options: str, dtype: Dtype | None, device: str, common: Common) -> Teacher:
    """A model, or the calculator that ``module:callable`` gives."""
    if names_calculator(model):
        return CalculatorTeacher.named(model, _read_options(options))
    return PotentialTeacher(open_model(model, dtype, common, device=device))
