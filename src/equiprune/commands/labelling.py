"""Making labels to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from ase import Atoms

import equiprune as ep
from equiprune.display import note, progress, show, show_json
from equiprune.errors import EquipruneError, TargetError
from equiprune.flags import COMMON, Common, Dtype, NotNegative, Output, Positive
from equiprune.hessian import Probes
from equiprune.opening import check_device, check_suffix, open_model
from equiprune.potential import batches
from equiprune.storage import Progress, check_writable
from equiprune.structures import fingerprint
from equiprune.training.label_file import LabelFile
from equiprune.training.labelling import Augmentation, Dynamics, augmented, simulated
from equiprune.training.labelling import label as labelled_by
from equiprune.training.second_derivatives import with_products
from equiprune.training.teachers import CalculatorTeacher, PotentialTeacher, Teacher, names_calculator
from equiprune.training_flags import NO_PROBES, ProbeFlags

_BATCH_ATOMS = 256


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
    device: str = "cpu",
    common: Common = COMMON,
) -> int:
    """Write structures with labels of a model: energy, forces, stress. Interrupted, the same command goes on.

    Args:
        model: the teacher: an alias, an upstream checkpoint, a directory that equiprune wrote, or module:callable for
            any ASE calculator, e.g. ase.calculators.emt:EMT.
        data: structures; labels they have are left out, other text and numbers of their info are kept.
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
        dtype: precision of a model; that of its file unless given.
        device: of a model: cpu or cuda.
    """
    probes = hessian.chosen(seed)
    check_suffix(output, "Labelled structures", ".extxyz", ".xyz")
    check_writable(output)
    augmentation = Augmentation(copies, rattle, strain, seed)
    dynamics = Dynamics(frames, temperature, interval, timestep, seed)
    teacher = _teacher(model, options, dtype, device, common)
    settings = {
        "teacher_sha256": teacher.fingerprint,
        "as": [common.head, dtype, device],
        "data_sha256": fingerprint(data),
        "limit": limit,
        **{"augmentation": repr(augmentation), "dynamics": repr(dynamics), "hessian": repr(probes)},
    }
    file = LabelFile(output, settings)
    written = file.written()
    source = augmented(islice(ep.read_structures(data), limit), augmentation)
    with _resumable(file), progress("label", limit and limit * (1 + copies) * (1 + frames)) as step:
        step(written.structures)
        rest = _rest(teacher, source, dynamics, probes, written.structures, step)
        for batch in batches(rest, _BATCH_ATOMS):  # those of the teacher, or the bits would depend on interruptions
            written = file.append(batch, written)
        file.finish(written)
    value = {"structures": written.structures, "teacher_sha256": teacher.fingerprint, "written": str(output)}
    value |= {"hessian": repr(probes)} if probes else {}
    show_json(value) if common.json else show(f"Labelled {written.structures} structures: {output}")
    return 0


def _rest(
    teacher: Teacher, source: Iterable[Atoms], dynamics: Dynamics, probes: Probes | None, done: int, step: Progress
) -> Iterator[Atoms]:
    """Labelled structures that follow those that are done."""
    structures = simulated(source, teacher.calculator, dynamics, skip=done)
    labelled = labelled_by(teacher, structures, batch_atoms=_BATCH_ATOMS, progress=step)
    if probes is None:
        return labelled
    if isinstance(teacher, CalculatorTeacher):
        raise TargetError(
            f"{teacher.name} gives no products of its Hessian, only a model does. Leave out --hessian-rows and "
            "--hessian-probes."
        )
    return with_products(teacher.potential, labelled, probes, batch_atoms=_BATCH_ATOMS, first=done)


@contextmanager
def _resumable(file: LabelFile) -> Iterator[None]:
    """Say that an earlier run is gone on from, and on Ctrl-C or an error what this one leaves."""
    if file.partial.exists():
        note(f"Going on from {file.partial}.")
    try:
        yield
    except KeyboardInterrupt:
        kept = f"{file.partial} keeps what was finished" if file.partial.exists() else "nothing was finished yet"
        raise EquipruneError(f"Interrupted; {kept}. Repeat the command to go on.") from None
    except Exception:
        if file.partial.exists():
            note(f"{file.partial} keeps what was finished: the same command goes on; before another, remove it.")
        raise


def _teacher(model: str, options: str, dtype: Dtype | None, device: str, common: Common) -> Teacher:
    """A model, or the calculator that ``module:callable`` gives."""
    if not names_calculator(model):
        if options != "{}":
            raise TargetError("--options are for a calculator named as module:callable. Leave them out.")
        check_device(device)
        return PotentialTeacher(open_model(model, dtype, common, device=device))
    given = {"--dtype": dtype, "--device": device != "cpu", "--head": common.head, "--trust": common.trust}
    if vain := [flag for flag, value in given.items() if value]:
        raise TargetError(
            f"{model} is a calculator, and {', '.join(vain)} means something to a model only. Leave it out; what a "
            "calculator understands goes into --options."
        )
    try:
        chosen = json.loads(options)
    except json.JSONDecodeError as error:
        raise TargetError(f"--options '{options}' is not JSON ({error}). Give e.g. '{{\"epsilon\": 0.5}}'.") from None
    if not isinstance(chosen, dict):
        raise TargetError(f"--options '{options}' is not a JSON object. Give e.g. '{{\"epsilon\": 0.5}}'.")
    return CalculatorTeacher.named(model, chosen)
