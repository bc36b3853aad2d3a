"""Sections of a report: a title, sentences, tables and figures, from what was found in a folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from equiprune.adapters.history import Pruned
from equiprune.blocks import PruningPlan
from equiprune.evaluation.accuracy import QUANTITIES
from equiprune.evaluation.properties.comparison import DATA, number
from equiprune.pruning.importance import ImportanceScores
from equiprune.report import figures
from equiprune.report.conditions import conditions, said
from equiprune.report.figures import ErrorMeasure
from equiprune.report.loading import loading
from equiprune.report.model import the_model
from equiprune.report.numbers import NUMBERS, of_curve, of_distributions, of_parity, of_plan
from equiprune.report.parts import NONE, Block, Code, Figure, Section, Table, shown
from equiprune.report.results import (
    CertificateFound,
    DiscoveryFound,
    Dynamics,
    DynamicsResult,
    Evaluation,
    Finalist,
    PropertiesResult,
    PropertyFound,
    QuantityFound,
    SearchFound,
    TrainingFound,
    Tried,
)
from equiprune.report.run_directory import RunDirectory
from equiprune.report.speed import by_engine, speed
from equiprune.verification.certificate import UNITS
from equiprune.verification.measurement import HEADS

_ERRORS = ["model", *(f"{quantity} MAE (RMSE), {unit}" for quantity, unit in QUANTITIES.items())]


def sections(run: RunDirectory) -> Iterator[Section]:
    """All sections in their order; one without anything to show says what would fill it."""
    yield Section("model", "The model", list(the_model(run)), "No model that equiprune can open is in this folder.")
    yield Section("loading", "How to load it", list(loading(run)), "This needs a model that can be opened.")
    missing = "Speed and errors of the same models: 'equiprune benchmark' and 'equiprune evaluate', with --json."
    yield Section("cost", "Accuracy against measured cost", list(_cost(run)), missing)
    yield Section("errors", "Errors against labels", list(_errors(run)), "'equiprune evaluate' compares with labels.")
    yield Section("speed", "Speed and memory", list(speed(run)), "'equiprune benchmark' times models side by side.")
    yield Section("certificate", "Certificate", list(_certificates(run)), "'equiprune certify' checks a model.")
    yield Section("removed", "What was removed", list(_removed(run)), _nothing_removed(run))
    yield Section(
        "search", "Candidates that were tried", list(_search(run)), "There is no result of 'equiprune search'."
    )
    yield Section(
        "training", "Training", list(_training(run)), "There is no learning curve and no result of 'equiprune train'."
    )
    yield Section("dynamics", "Molecular dynamics", list(_dynamics(run)), "'equiprune md' moves atoms with models.")
    missing = "'equiprune properties' measures elasticity, phonons and more."
    yield Section("properties", "Physical properties", list(_properties(run)), missing)
    missing = "'equiprune discovery' relaxes materials of Matbench Discovery."
    yield Section("discovery", "Discovery of stable materials", list(_discovery(run)), missing)
    yield Section(
        "stages",
        "How it was made",
        list(_stages(run)),
        "There is no record of a pipeline ('equiprune compress' or 'run').",
    )


# Errors, speed, and one against the other.


def _cost(run: RunDirectory) -> Iterator[Block]:
    for number_of, timings in enumerate(by_engine(run)):
        first = timings[0]
        speeds = {run.name_of(m.model): m.atoms_per_second / first.atoms_per_second for m in timings}
        measures = [measure for measure in _measures(run) if measure.of_model.keys() & speeds.keys()]
        if not measures:
            continue
        drawn = figures.errors_against_speed(speeds, measures)
        caption = f"Errors against speed, measured in turns: {said(conditions(first))}. Best is right and low."
        heads = ["model", "speed", *(measure.title for measure in measures)]
        rows = [
            [name, f"{speed:.2f}x", *(shown(measure.of_model.get(name)) for measure in measures)]
            for name, speed in speeds.items()
        ]
        yield Figure(f"cost-{number_of}", drawn, caption, Table(NUMBERS, rows, heads))


def _measures(run: RunDirectory) -> Iterator[ErrorMeasure]:
    """Every error of models that was measured in this folder, forces first."""
    for quantity in ("forces", "energy", "stress"):
        for each in run.of(Evaluation):
            found = {m.model: getattr(m, f"{quantity}_mae") for m in each.content.models}
            yield from _measure(run, f"{quantity} of {run.title_of(each.place)}, MAE ({QUANTITIES[quantity]})", found)
        for trained in run.of(TrainingFound):
            errors = {trained.content.model: getattr(trained.content.accuracy[-1], f"{quantity}_mae")}
            title = f"{quantity} from the labels of {trained.place}, held out, MAE ({QUANTITIES[quantity]})"
            yield from _measure(run, title, errors)
    for measured in run.of(PropertiesResult):
        for examined in measured.content.properties:
            yield from _of_property(run, examined)
    for discovery in run.of(DiscoveryFound):
        for subset in dict.fromkeys(name for model in discovery.content.models for name in model.on_shared):
            found = {m.model: _milli(m.on_shared.get(subset, {}).get("MAE")) for m in discovery.content.models}
            title = f"formation energy, {subset.replace('_', ' ')}, MAE (meV/atom)"
            yield from _measure(run, title, found)


def _of_property(run: RunDirectory, examined: PropertyFound) -> Iterator[ErrorMeasure]:
    """Errors of a property against data; against the first model where there are none."""
    first = next(iter(examined.models))
    for quantity, found in examined.models[first].items():
        against = DATA if any(DATA in m[quantity].against for m in examined.models.values()) else first
        errors = {name: m[quantity].against.get(against, {}).get("mae") for name, m in examined.models.items()}
        of = "the data" if against == DATA else run.name_of(first)
        title = _with_unit(f"{examined.property}, {quantity.replace('_', ' ')}, MAE from {of}", found.unit)
        yield from _measure(run, title, errors)


def _measure(run: RunDirectory, title: str, found: Mapping[str, float | None]) -> Iterator[ErrorMeasure]:
    known = {run.name_of(name): value for name, value in found.items() if value is not None}
    if known:
        yield ErrorMeasure(title, known)


def _errors(run: RunDirectory) -> Iterator[Block]:
    for number_of, each in enumerate(run.of(Evaluation)):
        models = [(run.name_of(model.model), model) for model in each.content.models]
        rows = [
            [name, *(_pair(getattr(m, f"{q}_mae"), getattr(m, f"{q}_rmse")) for q in QUANTITIES)] for name, m in models
        ]
        yield Table(f"{models[0][1].structures} structures of {run.title_of(each.place)}", rows, _ERRORS)
        for quantity, unit in (("energy", "eV/atom"), ("forces", "eV/Angstrom")):
            sampled = [(name, m) for name, m in models if m.parity.get(quantity)]
            if sampled:
                drawn = figures.parity({name: m.parity[quantity] for name, m in sampled}, quantity, unit)
                caption = f"Predictions against labels, {quantity}, a sample of {run.title_of(each.place)}."
                yield Figure(f"parity-{number_of}-{quantity}", drawn, caption, of_parity(sampled, quantity))
        if any(m.by_element for _, m in models):
            caption = f"Errors of forces by element, {run.title_of(each.place)}."
            elements = list(dict.fromkeys(e for _, m in models for e in m.by_element))
            of = [[e, *(shown(m.by_element.get(e, {}).get("forces_mae")) for _, m in models)] for e in elements]
            numbers = Table(f"{NUMBERS}, meV/Angstrom", of, ["element", *(name for name, _ in models)])
            yield Figure(f"elements-{number_of}", figures.periodic_table(models), caption, numbers)


# What is true of the file, and what was taken out of it.


def _certificates(run: RunDirectory) -> Iterator[Block]:
    as_json = {each.place for each in run.of(CertificateFound)}
    for each in run.of(CertificateFound):
        found = each.content
        yield f"{run.name_of(found.model)}: {'passed' if found.passed else 'FAILED'}, computed in float64."
        rows = []
        for name, limit in found.limits.items():
            value, unit = found.value(name), UNITS.get(name.rpartition(".")[2], "")
            within = value is not None and value <= limit
            shown = NONE if value is None else f"{value:.2g}"
            rows.append(
                [name.replace("_", " ").replace(".", ": "), shown, f"{limit:.0e}", unit, "ok" if within else "FAILS"]
            )
        yield Table("", rows, ["check", "value", "limit", "unit", "verdict"])
        if found.measured:
            yield Table("", [each.row() for each in found.measured], list(HEADS))
        yield from found.notes
    for text in run.certificates:
        if as_json.isdisjoint({text.place.removesuffix(".md"), text.place.rpartition("/")[0]}):
            yield Code(f"{text.place}, as it was written", run.without_folder(text.content))


def _nothing_removed(run: RunDirectory) -> str:
    if run.result is None:
        return "There is no model whose history says what was cut."
    return f"No step of pruning is in the history of {run.result.place}."


def _removed(run: RunDirectory) -> Iterator[Block]:
    plans = run.result.content.plans if run.result is not None else []
    if run.result is not None and len(plans) < len(run.result.content.steps(Pruned.name)):
        yield "The history has a step of pruning whose plan cannot be read by this version of equiprune."
    for number_of, plan in enumerate(plans):
        if not plan.masks:
            yield "No channel was removed."
            continue
        scores = _scores_of(run, plan)
        caption = "Each row is one irrep of one feature space; columns are channels. Coloured ones are kept, grey "
        caption += "ones removed." if scores else "ones removed. Without scores of the parent, importance is not shown."
        drawn = figures.removed_blocks(plan, scores)
        yield Figure(f"removed-{number_of}", drawn, caption, of_plan(plan, scores))


def _scores_of(run: RunDirectory, plan: PruningPlan) -> ImportanceScores | None:
    """Scores of the model that was pruned: their spaces are as large as the plan's."""
    for each in run.scores:
        mean = each.content.mean
        shapes = {name: {ir: len(values) for ir, values in by.items()} for name, by in mean.items()}
        scored = [name for name in plan.masks if name in shapes]
        if scored and all(shapes[name] == {ir: mul for mul, ir in plan.masks[name].irreps} for name in scored):
            return each.content
    return None


def _search(run: RunDirectory) -> Iterator[Block]:
    for number_of, each in enumerate(run.of(SearchFound)):
        yield each.content.reason
        caption = "Every candidate that was built: errors of forces on held-out structures against speed."
        heads = ["candidate", "found", "shape", *_SPEEDS_AND_ERRORS]
        finalists = {finalist.number: finalist for finalist in each.content.finalists}
        rows = [_candidate(tried, finalists.get(tried.number)) for tried in each.content.tried]
        yield Figure(f"search-{number_of}", figures.candidates(each.content), caption, Table(NUMBERS, rows, heads))


_SPEEDS_AND_ERRORS = (
    "speed, predicted",
    "forces after repair (meV/Angstrom)",
    "speed, measured",
    "forces after brief training (meV/Angstrom)",
)


def _candidate(tried: Tried, finalist: Finalist | None) -> list[str]:
    numbers = [f"{1 / tried.predicted.time:.2f}x", NONE if tried.errors is None else f"{tried.errors.forces:.1f}"]
    if finalist is not None:
        forces = NONE if finalist.errors is None else f"{finalist.errors.forces:.1f}"
        numbers += [f"{1 / finalist.measured.time:.2f}x", forces]
    return [str(tried.number), tried.made, tried.shape, *numbers, *([NONE, NONE] if finalist is None else [])]


def _training(run: RunDirectory) -> Iterator[Block]:
    for trained in run.of(TrainingFound):
        rows = [
            [each.model, *(_pair(getattr(each, f"{q}_mae"), getattr(each, f"{q}_rmse")) for q in QUANTITIES)]
            for each in trained.content.accuracy
        ]
        looked_at = trained.content.accuracy[0].structures
        yield Table(f"{trained.place}: errors against the labels of {looked_at} structures", rows, _ERRORS)
    for number_of, each in enumerate(run.curves):
        caption = f"Losses of {each.place}: of training dotted, of validation solid."
        yield Figure(f"curve-{number_of}", figures.learning_curve(each.content), caption, of_curve(each.content))


# Physics.


def _dynamics(run: RunDirectory) -> Iterator[Block]:
    for number_of, each in enumerate(run.of(DynamicsResult)):
        heads = ["model", "verdict", "time (ps)", "drift (meV/atom/ps)", "temperature (K)", "ns/day", "crashed"]
        yield Table(f"{each.content.models[0].atoms} atoms", [_moved(run, m) for m in each.content.models], heads)
        pairs = dict.fromkeys("-".join(map(str, curve["pair"])) for m in each.content.models for curve in m.rdf)
        for pair in pairs:
            curves = {
                run.name_of(m.model): curve
                for m in each.content.models
                for curve in m.rdf
                if "-".join(map(str, curve["pair"])) == pair
            }
            caption = f"Radial distribution functions of {pair}, with standard errors."
            drawn = figures.distributions(curves, pair)
            yield Figure(f"rdf-{number_of}-{pair}", drawn, caption, of_distributions(curves))


def _moved(run: RunDirectory, model: Dynamics) -> list[str]:
    drift, warm = model.drift_meV_per_atom_per_ps, model.temperature_K
    return [
        run.name_of(model.model),
        "passed" if model.passed else "FAILED",
        f"{model.time_ps:g}",
        NONE if drift is None else f"{shown(drift.get('slope'))} +- {shown(drift.get('error'))}",
        NONE if warm is None else f"{shown(warm.get('value'))} +- {shown(warm.get('error'))}",
        shown(model.ns_per_day),
        "no" if model.crashed is None else str(model.crashed.get("said", "yes")),
    ]


def _properties(run: RunDirectory) -> Iterator[Block]:
    for each in run.of(PropertiesResult):
        for examined in each.content.properties:
            first = next(iter(examined.models.values()))
            heads = [
                "model",
                "number",
                *(_with_unit(name.replace("_", " "), found.unit) for name, found in first.items()),
            ]
            rows = [row for model, found in examined.models.items() for row in _rows_of_property(run, model, found)]
            title = f"{examined.property}: {examined.compared} of {examined.structures}, the same for all models"
            yield Table(title, rows, heads)


def _rows_of_property(run: RunDirectory, model: str, found: Mapping[str, QuantityFound]) -> Iterator[list[str]]:
    """Means of a model, and its errors from what they are compared with."""
    yield [run.name_of(model), "mean", *(shown(each.mean) for each in found.values())]
    for against in dict.fromkeys(name for each in found.values() for name in each.against):
        if against != model:
            of = "the data" if against == DATA else run.name_of(against)
            yield ["", f"MAE from {of}", *(shown(each.against.get(against, {}).get("mae")) for each in found.values())]


def _with_unit(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title


def _discovery(run: RunDirectory) -> Iterator[Block]:
    shares = ("F1", "DAF", "Precision", "Recall", "Accuracy")
    for each in run.of(DiscoveryFound):
        found = each.content
        for subset in dict.fromkeys(name for model in found.models for name in model.on_shared):
            rows = []
            for model in found.models:
                of = model.on_shared.get(subset, {})
                errors = (_milli(of.get("MAE")), _milli(of.get("RMSE")))
                values = (*(of.get(share) for share in shares), *errors, of.get("R2"))
                rows.append([run.name_of(model.model), *map(shown, values)])
            title = f"{subset.replace('_', ' ')}: {found.shared:,} of {found.materials:,} materials, stable against "
            heads = ["model", *shares, "MAE (meV/atom)", "RMSE (meV/atom)", "R2"]
            yield Table(f"{title}{found.stable_against}", rows, heads)


# The pipeline.


def _stages(run: RunDirectory) -> Iterator[Block]:
    if run.unfinished:
        yield f"Begun and not ended: {', '.join(run.unfinished)}. What they give is not on this page."
    if run.stages:
        rows = []
        for stage in run.stages:
            minutes = NONE if stage.content.seconds is None else f"{stage.content.seconds / 60:.1f}"
            rows.append([stage.place, stage.content.command, minutes])
        yield Table("", rows, ["stage", "command", "minutes"])
        yield Code("The commands", "\n".join(shlex.join(map(run.place_of, stage.content.line)) for stage in run.stages))


def _milli(value: float | None) -> float | None:
    return None if value is None else 1e3 * value


def _pair(mae: float | None, rmse: float | None) -> str:
    return "no labels" if mae is None else f"{number(mae)} ({shown(rmse)})"
