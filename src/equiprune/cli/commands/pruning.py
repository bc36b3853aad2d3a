"""Scoring blocks and cutting them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import equiprune as ep
from equiprune.adapters.growth import Growth, NativeGrids
from equiprune.cli.commands.resuming import resumable
from equiprune.cli.display import note, plain, progress, show, show_json, show_table
from equiprune.cli.flags.growth import NO_GROWTH, GrowthFlags
from equiprune.cli.flags.panels import COMMON, Common
from equiprune.cli.flags.scores import NO_SCORES, CriterionName, ScoreFlags, criterion_named
from equiprune.cli.flags.targets import NO_TARGETS, TargetFlags
from equiprune.cli.flags.values import Device, Dtype, NotNegative, Output, Positive
from equiprune.cli.opening import check_device, check_suffix, open_model
from equiprune.cli.summary import compare_models, written
from equiprune.errors import OutputError, TargetError
from equiprune.files.atomic import check_writable, read_json, write_json
from equiprune.files.settings import to_json
from equiprune.potentials.checkpoint import check_export, check_output
from equiprune.pruning.criteria import Criterion, DataCriterion
from equiprune.pruning.figure import table as importance_table
from equiprune.pruning.growing import grow_checkpoint
from equiprune.pruning.slicing import prune_checkpoint
from equiprune.structures.reading import check_apart
from equiprune.verification.certificate import deviation, prove_lossless


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
    device: Device = "cpu",
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
        plot: also draw importance by l and interaction (.png or .svg).
    """
    check_calibrate(data, output, criterion, seed, device, plot)
    for path in (output, plot):
        if path:
            check_writable(path)
            check_apart(path, [data])
    chosen = criterion_named(criterion, seed)
    if data is not None and not isinstance(chosen, DataCriterion):
        note(f"The {chosen.name} criterion looks at no structures; '{data}' is not read.")
    resume = ep.Resume(output.with_name(output.name + ".partial"))
    potential = open_model(model, dtype, common, any_head=not isinstance(chosen, DataCriterion), device=device)
    structures = data if isinstance(chosen, DataCriterion) and data else ()
    with resumable(resume.path), progress("calibrate", limit) as step:
        scores = ep.calibrate(
            potential, structures, chosen, limit=limit, batch_atoms=batch_atoms, resume=resume, progress=step
        )
    write_json(output, scores.to_json())
    if plot:
        ep.plot_importance(scores, plot)
    files = [str(path) for path in (output, plot) if path]
    _report_scores(scores, criterion, files, as_json=common.json)
    return 0


def _report_scores(scores: ep.ImportanceScores, criterion: str, files: list[str], *, as_json: bool) -> None:
    if as_json:
        facts = {"structures": scores.structures, "provenance": dict(scores.provenance)}
        show_json({"scores": files[0], "written": files, **facts})
        return
    basis = f"mean over {scores.structures} structures" if scores.structures else "from the weights or the seed alone"
    show_table(f"Importance ({criterion}, {basis})", importance_table(scores))
    show("Written: " + ", ".join(files))


def check_calibrate(
    data: Path | None, output: Path, criterion: CriterionName, seed: int, device: str, plot: Path | None
) -> None:
    """Refuse what can be refused before anything is opened."""
    if plot:
        check_suffix(plot, "A plot", ".png", ".svg")
        if plot == output:
            raise OutputError(f"'{plot}' cannot be both the scores and the plot. Choose another name for one of them.")
    chosen = criterion_named(criterion, seed)
    if isinstance(chosen, DataCriterion) and data is None:
        raise TargetError(f"The {chosen.name} criterion looks at structures: give DATA after the model.")
    check_device(device)


def prune(
    model: str,
    /,
    *,
    output: Output,
    target: TargetFlags = NO_TARGETS,
    add: GrowthFlags = NO_GROWTH,
    by: ScoreFlags = NO_SCORES,
    device: Device = "cpu",
    common: Common = COMMON,
) -> int:
    """Write the smaller model that the targets ask for. The suffix of the output chooses the format.

    Args:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        output: .pth for SevenNet, .model for MACE, .pt for eSCN, no suffix for equiprune's own directory.
    """
    check_prune(target, add, by, device, common)
    check_writable(output)
    check_apart(output, [by.data])
    growths = add.growths(by.seed)
    targets, criterion = target.targets(needed=not growths), by.chosen()
    preferred = target.only_head(common.head)
    parent = open_model(model, None, common, any_head=by.data is None, preferred=preferred, device=device)
    check_output(parent.adapter, output)

    def allocated(scores: ep.ImportanceScores | None) -> ep.PruningPlan:
        mixed, assembled = target.heterogeneous, target.interactions is not None and add.nonlinear_readout is not None
        rounding = target.round_to
        return ep.allocate(parent, targets, scores, round_to=rounding, heterogeneous=mixed, assembled=assembled)

    if by.data is not None:
        _rehearse(parent, allocated(ep.data_free_scores(parent, ep.Random(by.seed))), growths, output)
    plan = allocated(_scores(parent, by, criterion))
    child = parent
    if not plan.keeps_all or not growths:
        child = ep.prune(parent, plan, note={"targets": to_json(targets), "round_to": target.round_to})
    child, changed = _grown(child, growths)
    proof = prove_lossless(parent, plan) if target.lossless else {}
    paths = ep.save(child, output)
    value = compare_models(parent, child)
    if common.json:
        proven = ({"lossless": proof} if proof else {}) | ({"changed": changed} if changed else {})
        show_json({**value, **proven, "written": list(map(str, paths)), "plan": plan.to_json()})
        return 0
    show_table("Pruned", [["", "parent", "child"], *([key, plain(a), plain(b)] for key, (a, b) in value.items())])
    show(" ".join([*changed, _advice(plan, proof, growths)]))
    if child.architecture.why_not_stock:
        show(_not_stock(child))
    show(written(paths))
    return 0


def check_prune(target: TargetFlags, add: GrowthFlags, by: ScoreFlags, device: str, common: Common) -> None:
    """Refuse what can be refused before anything is opened."""
    check_device(device)
    growths = add.growths(by.seed)
    for flag, given in (("--reinitialise", add.reinitialise), ("--native-grids", add.native_grids)):
        if target.lossless and given:
            raise TargetError(f"{flag} changes the function, so the result cannot be --lossless. Leave out one.")
    target.check(needed=not growths)
    target.only_head(common.head)
    by.chosen()


def _grown(potential: ep.Potential, growths: Sequence[Growth]) -> tuple[ep.Potential, list[str]]:
    """The model with everything added, and by how much the function changed where it had to."""
    changed = []
    for growth in growths:
        before, potential = potential, ep.grow(potential, growth)
        if isinstance(growth, NativeGrids):
            pair = (before.with_dtype(torch.float64), potential.with_dtype(torch.float64))
            changed.append(deviation(*pair, list(ep.probe_structures(potential.elements).values())))
    return potential, changed


def _rehearse(parent: ep.Potential, plan: ep.PruningPlan, growths: Sequence[Growth], output: Path) -> None:
    """Refuse before structures are evaluated what would be refused afterwards; ``plan`` is of random scores."""
    child = prune_checkpoint(parent.adapter, parent.checkpoint, plan, parent.dtype)
    for growth in growths:
        child = grow_checkpoint(parent.adapter, child, growth, parent.dtype)
    check_export(parent.adapter, child.architecture, output)


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


def _not_stock(child: ep.Potential) -> str:
    if not child.architecture.assembled:
        return (
            f"{child.adapter.name}'s own tools cannot be told what this model is: {child.architecture.why_not_stock}. "
            "With --native-grids they can, and its function changes a little."
        )
    return (
        f"Assembled from {child.adapter.name}'s own blocks, because its constructor cannot build it: "
        f"{child.architecture.why_not_stock}. It runs in the calculator and what exports whole modules; tools that "
        "rebuild a model from its hyperparameters (fine-tuning, accelerated kernels) refuse it."
    )


def _advice(plan: ep.PruningPlan, proof: Mapping[str, float], growths: Sequence[Growth]) -> str:
    if not all(growth.preserve for growth in growths):
        only_grids = plan.keeps_all and all(isinstance(growth, NativeGrids) for growth in growths)
        return "" if only_grids else "The model needs training before use."
    if proof:
        measured = ", ".join(f"{key} {value:.1g}" for key, value in proof.items())
        removed = "" if not plan.keeps_all else "There was nothing to remove. "
        return f"{removed}Lossless, proven in float64; largest differences: {measured}."
    if plan.keeps_all and growths:
        return "The function is that of the parent."
    if plan.keeps_all:
        return "Nothing was removed: the targets ask for what the model already is."
    if plan.masks.keys() <= {"elements", "heads"}:
        return "Exact for the elements and heads that are kept; 'equiprune certify' proves it."
    return "The child starts from its parent's weights and needs retraining before use."
