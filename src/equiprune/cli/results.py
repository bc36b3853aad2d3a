"""Results in words and tables, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import equiprune as ep
from equiprune import commands
from equiprune.adapters.capabilities import HasLinearMaps
from equiprune.adapters.growth import NativeGrids
from equiprune.cli.display import plain, show, show_table
from equiprune.cli.machine import show_machine
from equiprune.commands.benchmark import OutOfMemory, Timed
from equiprune.commands.calibrate import Calibrated
from equiprune.commands.crystals import Started
from equiprune.commands.discovery import Discovered
from equiprune.commands.doctor import Cost, Examined
from equiprune.commands.evaluate import Evaluated
from equiprune.commands.export import Exported
from equiprune.commands.info import Description
from equiprune.commands.known_models import KnownModels
from equiprune.commands.label import Labelled
from equiprune.commands.md import Moved
from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Switch
from equiprune.commands.properties import MeasuredProperties
from equiprune.commands.prune import Pruned
from equiprune.commands.repair import Repaired
from equiprune.commands.report import Reported
from equiprune.commands.search import Searched
from equiprune.commands.stability import Compared
from equiprune.commands.train import Trained
from equiprune.evaluation.accuracy import table as accuracy_table
from equiprune.evaluation.benchmark import table as timing_table
from equiprune.evaluation.discovery.result import FULL, metrics_table, outcomes_table
from equiprune.evaluation.dynamics.drift import Verdict
from equiprune.evaluation.dynamics.tables import distribution_table, main_table, motion_table
from equiprune.evaluation.largest_batch import table as batch_table
from equiprune.evaluation.precisions import table as precision_table
from equiprune.evaluation.properties.comparison import said as properties_said
from equiprune.evaluation.properties.comparison import table as properties_table
from equiprune.evaluation.scaling import table as scaling_table
from equiprune.evaluation.scaling import times_table as scaling_times_table
from equiprune.labelling.tally import ended_said, left_out_said
from equiprune.pruning.figure import table as importance_table
from equiprune.pruning.stability import table as stability_table
from equiprune.structures.converting import Conversion

JSON = Annotated[Switch, Parameter(group=panel("Common"), help="print one JSON document on stdout instead of text.")]
"""The flag of every command that shows a result."""


def description(found: Description | KnownModels) -> None:
    """Facts of a model and the spaces that a plan can prune; or every alias."""
    if isinstance(found, KnownModels):
        rows = [[model.alias, model.adapter, model.about, model.licence, model.where] for model in found.models]
        show_table("Models that have a name", [["alias", "architecture", "model", "licence", "where"], *rows])
        return
    columns = ("name", "irreps", "role", "tying")
    facts = found.to_json()
    spaces = [[space[column] for column in columns] for space in facts.pop("spaces", ())]
    show_table("", [["", found.model], *([_label(key), _fact(key, item)] for key, item in facts.items())])
    if spaces:
        show_table("Feature spaces: what a plan can prune", [columns, *spaces])


def _fact(key: str, item: Any) -> str:
    if key == "published_sha256" and item is None:
        return "none: that of the first file is recorded, and holds for later ones"
    return plain(item)


def _label(key: str) -> str:
    return _LABELS.get(key, key.replace("_", " "))


_LABELS = {
    "cutoff": "cutoff (Angstrom)",
    "dead": "dead blocks",
    "global_inputs": "read from info",
    "not_finite": "useless: NaN or infinity in",
    "assembled": "assembled, because",
    "energy_mae": "energy MAE, DFT (meV/atom)",
    "forces_mae": "forces MAE, DFT (meV/Angstrom)",
    "speed_of_parent": "speed, of the parent's, by engine",
    "certificate": "certificate (physics)",
    "url": "address",
    "file": "file, or where to put it",
    "published_sha256": "published sha256",
}


def started(made: Started) -> None:
    """Number of structures of each kind, and their file."""
    show_table("", [["kind", "structures"], *([kind, plain(number)] for kind, number in made.kinds.items())])
    show(f"Written {made.structures} structures: {made.path}")


def converted(made: Conversion) -> None:
    """Number of structures that were kept, their labels, and what was skipped and why."""
    show(f"Written {made.kept} structures: {made.path}")
    show(str(made.labels))
    for reason, number in made.skipped.items():
        show(f"Skipped {number}, because {reason}. The first: {made.examples[reason]}")


def labelled(made: Labelled) -> None:
    """Number of labelled structures, their file, and what was left out."""
    show(f"Labelled {made.structures} structures: {made.path}")
    if made.walks is not None:
        show(" ".join(ended_said(made.tally)) or f"All {made.walks} walks of the student went to their end.")
    if made.may_lack:
        show(" ".join(left_out_said(made.tally, made.screening)) or "No structure was left out.")


def calibrated(made: Calibrated) -> None:
    """Importance by l and interaction, and where the scores are."""
    scores = made.scores
    basis = f"mean over {scores.structures} structures" if scores.structures else "from the weights or the seed alone"
    show_table(f"Importance ({made.criterion}, {basis})", importance_table(scores))
    show("Written: " + ", ".join(map(str, made.files)))


def pruned(made: Pruned) -> None:
    """Parent and child side by side, what the change means, and the files."""
    sizes = [[key, plain(before), plain(after)] for key, (before, after) in made.comparison.items()]
    show_table("Pruned", [["", "parent", "child"], *sizes])
    show(" ".join([*made.changed, _advice(made)]))
    if made.child.architecture.why_not_stock:
        show(_not_stock(made.child))
    show(_written(made.files))


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


def _advice(made: Pruned) -> str:
    nothing_removed = made.plan.keeps_all
    if not all(growth.preserve for growth in made.growths):
        only_grids = nothing_removed and all(isinstance(growth, NativeGrids) for growth in made.growths)
        return "" if only_grids else "The model needs training before use."
    if made.proof:
        measured = ", ".join(f"{key} {value:.1g}" for key, value in made.proof.items())
        removed = "There was nothing to remove. " if nothing_removed else ""
        return f"{removed}Lossless, proven in float64; largest differences: {measured}."
    if nothing_removed and made.growths:
        return "The function is that of the parent."
    if nothing_removed:
        return "Nothing was removed: the targets ask for what the model already is."
    if made.plan.masks.keys() <= {"elements", "heads"}:
        return "Exact for the elements and heads that are kept; 'equiprune certify' proves it."
    mended = isinstance(made.child.adapter, HasLinearMaps)
    first = " 'equiprune repair' brings it closer to its parent first, without labels." if mended else ""
    return f"The child starts from its parent's weights and needs retraining before use.{first}"


def searched(made: Searched) -> None:
    """Finalists, the choice and its reason, and the files."""
    found = made.found
    origins = {each.number: each for each in found.journal.tried}
    head = ["candidate", "found", "", "speed, measured", "parameters", "energy (meV/atom)", "forces (meV/Angstrom)"]
    rows = [
        [
            f"{each.number}{' (chosen)' if each.number == found.chosen.number else ''}",
            origins[each.number].made,
            origins[each.number].shape,
            f"{each.measured.speed:.2f}x",
            f"{each.measured.parameters:.3g}",
            "no labels" if each.errors is None or each.errors.energy is None else f"{each.errors.energy:.1f}",
            f"{each.forces:.1f}",
        ]
        for each in found.finalists
    ]
    show_table("After brief training, on structures that were held out", [head, *rows])
    show(found.reason)
    show("Written: " + ", ".join(map(str, made.files)))


def repaired(made: Repaired) -> None:
    """Differences from the parent before and after, and the files."""
    if not made.differences:
        show("Not repaired: the model is as it was.")
        show(_written(made.files))
        return
    rows = [[when, f"{found.energy:.1f}", f"{found.forces:.1f}"] for when, found in made.differences.items()]
    show_table("From the parent's", [["", "energy (meV/atom)", "forces (meV/Angstrom)"], *rows])
    show("On structures that were held out. The model still needs retraining before use.")
    show(_written(made.files))


def certified(certificate: ep.Certificate) -> None:
    """A certificate as a page."""
    show(certificate.to_markdown())


def trained(made: Trained) -> None:
    """Errors before and after, and where the run is."""
    some = f"{made.looked_at} of {made.structures} training structures"
    if made.accuracies:
        show_table(f"On {'the validation structures' if made.validated else some}", accuracy_table(made.accuracies))
    show_table("", [["", ""], *([key, plain(item)] for key, item in made.files.items())])


def evaluated(found: Evaluated) -> None:
    """Errors of models against labels."""
    first = found.accuracies[0]
    show_table(f"{first.structures} structures of {found.data}", accuracy_table(found.accuracies))
    for quantity, count in first.missing.items():
        if count:
            show(f"{count} of {first.structures} structures have no {quantity} label and were left out of that column.")


def timed(found: Timed | OutOfMemory) -> None:
    """Speed and memory of models, or that there was too little of it."""
    if isinstance(found, OutOfMemory):
        show(f"Out of memory: {found.atoms} atoms need more than the {found.available / 1e9:.3g} GB that the GPU had.")
        return
    formula = found.structure.get_chemical_formula()
    formula = formula if found.copies == 1 else f"{found.copies} copies of {formula}"
    where = f"{found.device} ({found.timings[0].device_name})"
    show_table(f"Energy, forces and stress of {formula} on {where}", timing_table(list(found.timings), found.timestep))
    if found.scaling:
        show_table("Time of one call (ms), over the first model's speed", scaling_times_table(found.scaling))
        show_table("Time = overhead + ms/atom x atoms", scaling_table(found.scaling))
    if found.largest_batch:
        show_table(f"The largest batch of {formula} that fits into memory", batch_table(found.largest_batch))
    if found.precisions:
        structures = found.precisions[0].structures
        show_table(f"Differences from float64 on {structures} structures", precision_table(found.precisions))
    if found.written:
        show(f"Written: {found.written}")


def moved(found: Moved) -> None:
    """Dynamics of models."""
    first, formula = found.found[0], found.structure.get_chemical_formula()
    how = ", ".join(f"{value} {name}" if name == "threads" else str(value) for name, value in first.conditions.items())
    copies = f", {first.protocol.copies} copies" if first.protocol.copies > 1 else ""
    show_table(f"Dynamics of {formula} ({how}), {first.protocol.timestep:g} fs{copies}", main_table(found.found))
    if any(each.distributions for each in found.found):
        show_table("Radial distribution functions", distribution_table(found.found))
    show_table("Motion", motion_table(found.found))
    for each in found.found:
        if each.crash:
            show(f"{each.model} crashed {each.crash}.")
        if each.drift and each.drift.verdict is Verdict.UNDECIDED:
            limit = f"{each.drift.limit:g} meV/atom/ps"
            show(f"{each.model}: undecided, the limit of the drift, {limit}, lies within its error bar. Run longer.")
    show(f"Written: {found.folder}")


def compared(found: Compared) -> None:
    """Importance before and after training."""
    show_table(f"Importance of {found.before} and of {found.after}: how alike?", stability_table(found.found))


def discovered(made: Discovered) -> None:
    """How relaxations ended, metrics of models side by side, and the files."""
    found = made.result
    drawn = "" if len(found.materials) == found.available else f", drawn from {found.available:,}"
    show_table(f"Relaxations of {len(found.materials):,} materials{drawn}", outcomes_table(found))
    for subset in found.subsets:
        of = "materials" if subset == FULL else f"{subset.replace('_', ' ')} of the materials"
        show_table(f"The {len(found.shared):,} {of} that all models finished", metrics_table(found, subset))
    if not found.has_hull:
        show("No convex hull was given: stable is what forms from its elements, which is not the discovery task.")
    show("Written: " + ", ".join(map(str, made.files)))


def measured(made: MeasuredProperties) -> None:
    """A table of each property, what it is over, limits, and the file."""
    for each in made.measured:
        show_table(each.examined.name, properties_table(each))
        show(" ".join(properties_said(each)))
    for limit in made.limits:
        kept = "kept" if limit.held(made.measured) else "not kept"
        show(f"Limit {limit.property_name}.{limit.quantity} {limit.most:g}: {kept}.")
    show(f"Written: {made.written}")


def examined(found: Examined) -> None:
    """A machine, and what a model costs on it."""
    show_machine(found.machine)
    if found.model:
        heads = ["engine", "atoms", "atoms/s (slowest..fastest)"]
        costs = [[cost.engine, str(cost.atoms), _rate(cost)] for cost in found.costs]
        show_table(f"{found.model}: energy, forces and stress", [heads, *costs])


def _rate(cost: Cost) -> str:
    if (timing := cost.timing) is None:
        return cost.refused
    slowest, fastest = (timing.atoms / seconds for seconds in (max(timing.seconds), min(timing.seconds)))
    return f"{timing.atoms_per_second:.0f} ({slowest:.0f}..{fastest:.0f})"


def reported(made: Reported) -> None:
    """The page."""
    show(f"Written: {made.path}")


def exported(made: Exported) -> None:
    """The files."""
    show(_written(made.files))
    if made.script:
        show(f"Input script for LAMMPS: {made.script}. Its first lines say what to run before.")


def _written(paths: Sequence[Path]) -> str:
    return "Written, read back and compared: " + ", ".join(map(str, paths))


SHOWN: Mapping[type[commands.Request[Any]], Callable[[Any], None]] = {
    commands.Info: description,
    commands.Calibrate: calibrated,
    commands.Prune: pruned,
    commands.Properties: measured,
    commands.Search: searched,
    commands.Repair: repaired,
    commands.Certify: certified,
    commands.Evaluate: evaluated,
    commands.Benchmark: timed,
    commands.Discovery: discovered,
    commands.Doctor: examined,
    commands.Md: moved,
    commands.Export: exported,
    commands.Label: labelled,
    commands.Convert: converted,
    commands.Crystals: started,
    commands.Train: trained,
    commands.Stability: compared,
    commands.Report: reported,
}
"""The function that shows the result of each command."""
