"""Making labels to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from ase import Atoms

import equiprune as ep
from equiprune.cli.commands.resuming import resumable
from equiprune.cli.display import progress, show, show_json
from equiprune.cli.flags.labelling import NO_COPIES, NO_DYNAMICS, NO_PROBES, CopyFlags, DynamicsFlags, ProbeFlags
from equiprune.cli.flags.panels import COMMON, Common
from equiprune.cli.flags.values import Device, Dtype, NotNegative, Output, Positive
from equiprune.cli.opening import check_device, check_suffix, open_model
from equiprune.errors import TargetError
from equiprune.files.atomic import check_writable
from equiprune.files.settings import to_json
from equiprune.labelling.job import BATCH_ATOMS, LabellingJob, remaining
from equiprune.labelling.label_file import LabelFile
from equiprune.labelling.teachers import CalculatorTeacher, PotentialTeacher, Teacher, names_calculator
from equiprune.structures.batching import batches
from equiprune.structures.reading import check_apart, fingerprint


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
    asked = LabellingJob(copy.augmentation(seed), motion.dynamics(seed), hessian.chosen(seed))
    check_writable(output)
    check_apart(output, [data])
    teacher = _teacher(model, options, dtype, device, common)
    made_as = {"teacher_sha256": teacher.fingerprint, "as": [common.head, dtype, device]}
    settings = {**made_as, "data_sha256": fingerprint(data), "limit": limit, **asked.described()}
    count = _write(LabelFile(output, settings), teacher, islice(ep.read_structures(data), limit), asked, limit)
    value = {"structures": count, "teacher_sha256": teacher.fingerprint, "written": str(output)}
    value |= {"hessian": to_json(asked.probes)} if asked.probes else {}
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
    asked = LabellingJob(copy.augmentation(seed), motion.dynamics(seed), hessian.chosen(seed))
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


def _write(file: LabelFile, teacher: Teacher, source: Iterable[Atoms], asked: LabellingJob, limit: int | None) -> int:
    """Label what an interrupted attempt has not; how many structures there are then."""
    written = file.written()
    with resumable(file.partial), progress("label", limit and limit * asked.each) as step:
        step(written.structures)
        rest = remaining(teacher, source, asked, written.structures, step)
        for batch in batches(rest, BATCH_ATOMS):  # those of the teacher, or the bits would depend on interruptions
            written = file.append(batch, written)
        file.finish(written)
    return written.structures


def _teacher(model: str, options: str, dtype: Dtype | None, device: str, common: Common) -> Teacher:
    """A model, or the calculator that ``module:callable`` gives."""
    if names_calculator(model):
        return CalculatorTeacher.named(model, _read_options(options))
    return PotentialTeacher(open_model(model, dtype, common, device=device))
