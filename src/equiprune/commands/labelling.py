"""Making labels to train on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import ase.io
from ase import Atoms

import equiprune as ep
from equiprune.display import progress, show, show_json
from equiprune.errors import TargetError
from equiprune.flags import COMMON, Common, Dtype, NotNegative, Output, Positive
from equiprune.hessian import Probes
from equiprune.opening import check_suffix, open_model
from equiprune.storage import check_writable, replacing
from equiprune.training.labelling import Augmentation, Dynamics, augmented, simulated
from equiprune.training.labelling import label as labelled_by
from equiprune.training.second_derivatives import with_products
from equiprune.training.teachers import CalculatorTeacher, PotentialTeacher, Teacher
from equiprune.training_flags import NO_PROBES, ProbeFlags


def label(
    model: str,
    data: Path,
    /,
    *,
    output: Output,
    options: str = "{}",
    copies: NotNegative = 0,
    rattle: float = 0.1,
    strain: float = 0.02,
    frames: NotNegative = 0,
    temperature: float = 600.0,
    interval: Positive = 20,
    timestep: float = 1.0,
    hessian: ProbeFlags = NO_PROBES,
    seed: NotNegative = 0,
    limit: Positive | None = None,
    dtype: Dtype | None = None,
    common: Common = COMMON,
) -> int:
    """Write structures with the energy, forces, stress and, if asked, Hessian products that a model gives them.

    Args:
        model: the teacher: an alias, an upstream checkpoint, a directory that equiprune wrote, or module:callable for
            any ASE calculator, e.g. ase.calculators.emt:EMT.
        data: structures; labels they have are not used.
        output: labelled structures (.extxyz).
        options: what to call module:callable with, as JSON.
        copies: distorted copies of each structure, labelled as well.
        rattle: displacement of the copies' atoms, standard deviation in Angstrom.
        strain: deformation of the copies' cells, standard deviation.
        frames: of molecular dynamics with the teacher that starts from each structure, labelled as well.
        temperature: of the dynamics, K.
        interval: steps between its frames.
        timestep: of the dynamics, fs.
        seed: of distortions and dynamics, and of the choice of rows and vectors.
        limit: use only the first this many structures.
        dtype: precision of the teacher; that of its file unless given.
    """
    probes = hessian.chosen(seed)
    check_suffix(output, "Labelled structures", ".extxyz", ".xyz")
    check_writable(output)
    augmentation = Augmentation(copies, rattle, strain, seed)
    dynamics = Dynamics(frames, temperature, interval, timestep, seed)
    teacher = _teacher(model, options, dtype, common)
    source = augmented(islice(ep.read_structures(data), limit), augmentation)
    source = simulated(source, teacher.calculator, dynamics)
    with progress("label", limit and limit * (1 + copies) * (1 + frames)) as step, replacing(output) as temporary:
        count = 0
        labelled = labelled_by(teacher, source, progress=step)
        for atoms in _multiplied(teacher, labelled, probes) if probes else labelled:
            ase.io.write(temporary, atoms, format="extxyz", append=True)
            count += 1
    value = {"structures": count, "teacher_sha256": teacher.fingerprint, "written": str(output)}
    value |= {"hessian": repr(probes)} if probes else {}
    show_json(value) if common.json else show(f"Labelled {count} structures: {output}")
    return 0


def _multiplied(teacher: Teacher, labelled: Iterable[Atoms], probes: Probes) -> Iterator[Atoms]:
    """With products of the teacher's Hessian."""
    if isinstance(teacher, CalculatorTeacher):
        raise TargetError(
            f"{teacher.name} gives no products of its Hessian, only a model does. Leave out --hessian-rows and "
            "--hessian-probes."
        )
    return with_products(teacher.potential, labelled, probes)


def _teacher(model: str, options: str, dtype: Dtype | None, common: Common) -> Teacher:
    """A model, or the calculator that ``module:callable`` gives."""
    if not re.fullmatch(r"[\w.]+:\w+", model) or Path(model).exists():
        if options != "{}":
            raise TargetError("--options are for a calculator named as module:callable. Leave them out.")
        return PotentialTeacher(open_model(model, dtype, common))
    try:
        chosen = json.loads(options)
    except json.JSONDecodeError as error:
        raise TargetError(f"--options '{options}' is not JSON ({error}). Give e.g. '{{\"epsilon\": 0.5}}'.") from None
    if not isinstance(chosen, dict):
        raise TargetError(f"--options '{options}' is not a JSON object. Give e.g. '{{\"epsilon\": 0.5}}'.")
    return CalculatorTeacher.named(model, chosen)
