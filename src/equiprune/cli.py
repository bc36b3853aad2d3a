"""The command line. Each command is one call of the public API; nothing is computed here.

Results go to stdout (``--json``: one JSON document and nothing else), progress and notes to stderr. Exit codes: 0
success, 2 the user can mend it (one message, no traceback), 1 a check failed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from cyclopts import App, CycloptsError

import equiprune as ep
from equiprune.certificate import CHECKS, prove_lossless
from equiprune.checkpoint import check_output
from equiprune.display import note, plain, progress, show, show_json, show_table
from equiprune.errors import EquipruneError, OutputError, TargetError
from equiprune.evaluation.accuracy import table as accuracy_table
from equiprune.evaluation.benchmark import table as timing_table
from equiprune.flags import (
    COMMON,
    NO_GROWTH,
    NO_SCORES,
    NO_TARGETS,
    Common,
    CriterionName,
    Dtype,
    GrowthFlags,
    NotNegative,
    OptionalOutput,
    Output,
    Positive,
    ScoreFlags,
    TargetFlags,
    criterion_named,
)
from equiprune.opening import check_device, open_model, open_models
from equiprune.probes import probe_structures
from equiprune.pruning.figure import table as importance_table
from equiprune.pruning.importance import Criterion, DataCriterion
from equiprune.storage import check_writable, read_json, write_json, write_text
from equiprune.summary import compare_models, describe_model

app = App(
    name="equiprune",
    help="Make equivariant interatomic potentials smaller and faster, with the numbers right.",
    suppress_keyboard_interrupt=False,
)


@app.command
def info(model: str, /, *, common: Common = COMMON) -> int:
    """Show what a model is: architecture, spaces, parameters, elements, licence, dead blocks.

    Args:
        model: an alias such as 7net-l3i5, an upstream checkpoint, or a directory that equiprune wrote.
    """
    adapter, checkpoint = ep.read_checkpoint(model, trust=common.trust)
    if common.head is not None:
        adapter.check_head(checkpoint.architecture, common.head)
    value = describe_model(adapter, checkpoint)
    if common.json:
        show_json(value)
        return 0
    columns = ("name", "irreps", "role", "tying")
    spaces = [[space[column] for column in columns] for space in value.pop("spaces")]
    show_table("", [["", model], *([_label(key), plain(item)] for key, item in value.items())])
    show_table("Feature spaces: what a plan can prune", [columns, *spaces])
    return 0


@app.command
def calibrate(
    model: str,
    data: Path | None = None,
    /,
    *,
    output: Output,
    criterion: CriterionName = "taylor",
    seed: NotNegative = 0,
    limit: Positive | None = None,
    batch_atoms: Positive = 128,
    dtype: Dtype = "float32",
    device: str = "cpu",
    plot: Path | None = None,
    common: Common = COMMON,
) -> int:
    """Score every block of every feature space on structures. Interrupted, the same command goes on.

    Args:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: structures; labels are not needed. The criteria magnitude and random need no structures.
        output: scores, as JSON.
        criterion: how importance is measured.
        seed: of the random criterion.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
        dtype: precision of the model; sums are always float64.
        device: cpu or cuda.
        plot: also draw importance by l and interaction (.png or .svg).
    """
    chosen = criterion_named(criterion, seed)
    _check_calibration(chosen, data, output, plot)
    resume = ep.Resume(output.with_name(output.name + ".partial"))
    check_device(device)
    potential = open_model(model, dtype, common, any_head=not isinstance(chosen, DataCriterion), device=device)
    structures = data if isinstance(chosen, DataCriterion) and data else ()
    with _resumable(resume), progress("calibrate", limit) as step:
        scores = ep.calibrate(
            potential, structures, chosen, limit=limit, batch_atoms=batch_atoms, resume=resume, progress=step
        )
    write_json(output, scores.to_json())
    if plot:
        ep.plot_importance(scores, plot)
    written = [str(path) for path in (output, plot) if path]
    if common.json:
        facts = {"structures": scores.structures, "provenance": dict(scores.provenance)}
        show_json({"scores": str(output), "written": written, **facts})
        return 0
    basis = f"mean over {scores.structures} structures" if scores.structures else "from the weights or the seed alone"
    show_table(f"Importance ({criterion}, {basis})", importance_table(scores))
    show("Written: " + ", ".join(written))
    return 0


@contextmanager
def _resumable(resume: ep.Resume) -> Iterator[None]:
    """Say that an earlier run is gone on from, and on Ctrl-C what this one leaves."""
    if resume.path.exists():
        note(f"Going on from {resume.path}.")
    try:
        yield
    except KeyboardInterrupt:
        kept = f"{resume.path} keeps what was finished" if resume.path.exists() else "nothing was finished yet"
        raise EquipruneError(f"Interrupted; {kept}. Repeat the command to go on.") from None


def _check_calibration(criterion: Criterion, data: Path | None, output: Path, plot: Path | None) -> None:
    """Everything that can be refused before long work."""
    check_writable(output)
    if plot:
        _check_suffix(plot, "A plot", ".png", ".svg")
        check_writable(plot)
        if plot == output:
            raise OutputError(f"'{plot}' cannot be both the scores and the plot. Choose another name for one of them.")
    if isinstance(criterion, DataCriterion) and data is None:
        raise TargetError(f"The {criterion.name} criterion looks at structures: give DATA after the model.")
    if data is not None and not isinstance(criterion, DataCriterion):
        note(f"The {criterion.name} criterion looks at no structures; '{data}' is not read.")


@app.command
def prune(
    model: str,
    /,
    *,
    output: Output,
    target: TargetFlags = NO_TARGETS,
    add: GrowthFlags = NO_GROWTH,
    by: ScoreFlags = NO_SCORES,
    common: Common = COMMON,
) -> int:
    """Write the smaller model that the targets ask for. The suffix of the output chooses the format.

    Args:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        output: .pth for SevenNet, .model for MACE, no suffix for equiprune's own directory.
    """
    check_writable(output)
    growths = add.growths(by.seed)
    targets, criterion = target.targets(needed=not growths), by.chosen()
    parent = open_model(model, None, common, any_head=by.data is None, preferred=target.only_head(common.head))
    check_output(parent.adapter, output)
    scores = _scores(parent, by, criterion)
    plan = ep.allocate(parent, targets, scores, round_to=target.round_to, heterogeneous=target.heterogeneous)
    child = ep.prune(parent, plan, note={"targets": [repr(t) for t in targets], "round_to": target.round_to})
    for growth in growths:
        child = ep.grow(child, growth)
    proof = prove_lossless(parent, plan) if target.lossless else {}
    written = ep.save(child, output)
    value = compare_models(parent, child)
    if common.json:
        proven = {"lossless": proof} if proof else {}
        show_json({**value, **proven, "written": list(map(str, written)), "plan": plan.to_json()})
        return 0
    show_table("Pruned", [["", "parent", "child"], *([key, plain(a), plain(b)] for key, (a, b) in value.items())])
    show(_advice(plan, proof))
    if child.architecture.why_not_stock:
        show(_assembled(child))
    show(_written(written))
    return 0


def _scores(potential: ep.Potential, by: ScoreFlags, criterion: Criterion | None) -> ep.ImportanceScores | None:
    """Scores from a file, from structures, from a criterion that needs neither, or none."""
    if by.scores is not None:
        scores = ep.ImportanceScores.from_json(read_json(by.scores, "scores file"))
        made_for = scores.provenance.get("model_sha256")
        if made_for != potential.checkpoint.sha256:
            note(f"The scores were made for a model with sha256 '{made_for}', this one has another. Using them anyway.")
        return scores
    if criterion is None:
        return None
    with progress("calibrate", by.limit) as step:
        return ep.calibrate(potential, by.data or (), criterion, limit=by.limit, progress=step)


def _assembled(child: ep.Potential) -> str:
    return (
        f"Assembled from {child.adapter.name}'s own blocks, because its constructor cannot build it: "
        f"{child.architecture.why_not_stock}. It runs in the calculator and what exports whole modules; tools that "
        "rebuild a model from its hyperparameters (fine-tuning, accelerated kernels) refuse it."
    )


def _advice(plan: ep.PruningPlan, proof: Mapping[str, float]) -> str:
    if proof:
        measured = ", ".join(f"{key} {value:.1g}" for key, value in proof.items())
        removed = "" if not plan.keeps_all else "There was nothing to remove. "
        return f"{removed}Lossless, proven in float64; largest differences: {measured}."
    if plan.keeps_all:
        return "Nothing was removed: the targets ask for what the model already is."
    if plan.masks.keys() <= {"elements", "heads"}:
        return "Exact for the elements and heads that are kept; --lossless would also prove it."
    return "The child starts from its parent's weights and needs retraining before use."


@app.command
def certify(
    model: str,
    /,
    *,
    parent: str | None = None,
    output: OptionalOutput = None,
    nve_steps: Positive = 40,
    common: Common = COMMON,
) -> int:
    """Check a model in float64: exactly its pruned parent, equivariant, conservative, smooth. Exit code 1 if not.

    Args:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        parent: the model it was pruned from.
        output: also write the certificate (.json or .md).
        nve_steps: length of the molecular-dynamics check, in time steps (0.15 fs for H, 0.5 fs for C).
    """
    if output is not None:
        _check_suffix(output, "A certificate", ".json", ".md")
        check_writable(output)
    child = open_model(model, None, common, any_head=True)
    if child.head is not None and common.head is None:
        note(f"Checking head {child.head}; --head chooses another: {', '.join(child.architecture.heads)}.")
    original = open_model(parent, None, Common(trust=common.trust), any_head=True) if parent else None
    with progress("certify", CHECKS) as step:
        certificate = ep.certify(child, original, nve_steps=nve_steps, progress=step)
    if output is not None and output.suffix == ".json":
        write_json(output, certificate.to_json())
    elif output is not None:
        write_text(output, certificate.to_markdown())
    show_json(certificate.to_json()) if common.json else show(certificate.to_markdown())
    return 0 if certificate.passed else 1


@app.command
def evaluate(
    models: list[str],
    /,
    *,
    data: Path,
    dtype: Dtype = "float32",
    device: str = "cpu",
    limit: Positive | None = None,
    batch_atoms: Positive = 256,
    common: Common = COMMON,
) -> int:
    """Errors of one or more models against labelled structures, side by side.

    Args:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        data: structures with energy, forces or stress labels.
        dtype: precision of the models.
        device: cpu or cuda.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
    """
    structures = islice(ep.read_structures(data), limit)
    check_device(device)
    potentials = open_models(models, dtype, common, device)
    with progress("evaluate", limit) as step:
        accuracies = ep.evaluate(potentials, structures, batch_atoms=batch_atoms, progress=step)
    if common.json:
        show_json([accuracy.to_json() for accuracy in accuracies])
        return 0
    first = accuracies[0]
    show_table(f"{first.structures} structures of {data}", accuracy_table(accuracies))
    for quantity, count in first.missing.items():
        if count:
            show(f"{count} of {first.structures} structures have no {quantity} label and were left out of that column.")
    return 0


@app.command
def benchmark(
    models: list[str],
    /,
    *,
    data: Path | None = None,
    dtype: Dtype = "float32",
    repeats: Positive = 5,
    threads: Positive | None = None,
    device: str = "cpu",
    common: Common = COMMON,
) -> int:
    """Time models side by side, taking turns on the same structure.

    Args:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        data: the first structure is used; without it a rock-salt cell of 64 atoms.
        dtype: precision of the models.
        repeats: timed evaluations per model, after two for warming up.
        threads: of torch; its own choice unless given.
        device: cpu or cuda.
    """
    check_device(device)
    structures = ep.read_structures(data) if data else None
    potentials = open_models(models, dtype, common, device)
    shared = frozenset.intersection(*(potential.elements for potential in potentials.values()))
    atoms = next(structures) if structures else probe_structures(shared)["ionic"].repeat(2)
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("benchmark", (repeats + 2) * len(potentials)) as step:
        timings = ep.benchmark(potentials, atoms, repeats=repeats, progress=step)
    if common.json:
        show_json([timing.to_json() for timing in timings])
        return 0
    show_table(f"Energy, forces and stress of {atoms.get_chemical_formula()} on {device}", timing_table(timings))
    return 0


@app.command
def export(model: str, /, *, output: Output, common: Common = COMMON) -> int:
    """Write a model in another format, chosen by the suffix, and compare it with the stock tool before saying done.

    Args:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        output: .pth for SevenNet, .model for MACE, no suffix for equiprune's own directory.
    """
    check_writable(output)
    written = ep.save(open_model(model, None, common, any_head=True), output)
    show_json({"written": list(map(str, written))}) if common.json else show(_written(written))
    return 0


@app.command
def demo(output: Path = Path("demo_output"), /) -> int:
    """The main job on a real model that comes with pip install: calibrate, prune, certify, evaluate, time, save.

    Args:
        output: folder for what the demo writes; must not exist yet.
    """
    from equiprune.demo import run_demo

    run_demo(output)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code instead of raising for anything a user can mend."""
    try:
        return app(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except EquipruneError as error:
        return _complain(str(error))
    except CycloptsError as error:
        return _complain(f"{' '.join(str(error).split())} See 'equiprune --help'.")
    except KeyboardInterrupt:
        return _complain("Interrupted before the end. Repeat the command to start again.")
    except (MemoryError, torch.OutOfMemoryError):
        return _complain("Out of memory. Evaluate fewer atoms at once (--batch-atoms) or smaller structures.")
    except OSError as error:
        return _complain(f"{error.strerror or error} ({error.filename or 'no file named'}).")


def _complain(message: str) -> int:
    print(f"equiprune: {message}", file=sys.stderr)
    return 2


def _check_suffix(path: Path, what: str, *allowed: str) -> None:
    if path.suffix not in allowed:
        raise OutputError(f"{what} is written as {' or '.join(allowed)}, not '{path.suffix}' ('{path}').")


def _label(key: str) -> str:
    units = {"cutoff": "cutoff (Angstrom)", "dead": "dead blocks", "assembled": "assembled, because"}
    return units.get(key, key.replace("_", " "))


def _written(paths: Sequence[Path]) -> str:
    return "Written, read back and compared: " + ", ".join(map(str, paths))
