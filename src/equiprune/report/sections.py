"""Sections of a report: a title, sentences, tables and figures, from what was found in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ase.data import chemical_symbols

from equiprune.adapters import usable_adapters
from equiprune.adapters.capabilities import Exports, HasPairStyles
from equiprune.blocks import PruningPlan
from equiprune.evaluation.accuracy import QUANTITIES
from equiprune.evaluation.properties.comparison import DATA, number
from equiprune.potentials.lammps_input import MOST
from equiprune.pruning.importance import ImportanceScores
from equiprune.report import figures
from equiprune.report.figures import ErrorMeasure
from equiprune.report.parts import NONE, NUMBERS, Block, Code, Figure, Section, Table, shown
from equiprune.report.results import (
    CertificateFound,
    DiscoveryFound,
    Dynamics,
    DynamicsResult,
    Evaluation,
    PropertiesResult,
    PropertyFound,
    QuantityFound,
    SearchFound,
    TrainingFound,
)
from equiprune.report.run_directory import ModelFacts, Named, RunDirectory
from equiprune.report.speed import by_engine, conditions, speed
from equiprune.verification.certificate import UNITS
from equiprune.verification.measurement import HEADS

_ERRORS = ["model", *(f"{quantity} MAE (RMSE), {unit}" for quantity, unit in QUANTITIES.items())]


def sections(run: RunDirectory) -> Iterator[Section]:
    """All sections in their order; one without anything to show says what would fill it."""
    yield Section("model", "The model", list(_model(run)), "No model that equiprune wrote is in this folder.")
    missing = "Speed and errors of the same models: 'equiprune benchmark' and 'equiprune evaluate', with --json."
    yield Section("cost", "Accuracy against measured cost", list(_cost(run)), missing)
    yield Section("errors", "Errors against labels", list(_errors(run)), "'equiprune evaluate' compares with labels.")
    yield Section("speed", "Speed and memory", list(speed(run)), "'equiprune benchmark' times models side by side.")
    yield Section("certificate", "Certificate", list(_certificates(run)), "'equiprune certify' checks a model.")
    yield Section("removed", "What was removed", list(_removed(run)), "Nothing was pruned here.")
    yield Section("search", "Candidates that were tried", list(_search(run)), "No architecture was searched for.")
    yield Section("training", "Training", list(_training(run)), "No training run is in this folder.")
    yield Section("dynamics", "Molecular dynamics", list(_dynamics(run)), "'equiprune md' moves atoms with models.")
    missing = "'equiprune properties' measures elasticity, phonons and more."
    yield Section("properties", "Physical properties", list(_properties(run)), missing)
    missing = "'equiprune discovery' relaxes materials of Matbench Discovery."
    yield Section("discovery", "Discovery of stable materials", list(_discovery(run)), missing)
    yield Section("stages", "How it was made", list(_stages(run)), "No pipeline was run here.")


# The model.


def _model(run: RunDirectory) -> Iterator[Block]:
    if run.result is None:
        return
    facts = run.result.content
    symbols = [chemical_symbols[z] for z in facts.elements]
    shown = ", ".join(symbols) if len(symbols) <= 12 else f"{len(symbols)}: {', '.join(symbols)}"
    rows = [
        ["architecture", facts.adapter],
        ["elements", shown],
        ["cutoff", f"{facts.cutoff:g} Angstrom"],
        ["licence of the weights", facts.licence],
        ["made by", " -> ".join(_made(facts)) or "no step that is recorded"],
        ["packages", ", ".join(f"{name} {version}" for name, version in facts.versions.items())],
    ]
    yield from _headline(run)
    yield Table("", rows)
    path = run.folder / run.result.place
    yield Code("In ASE", f'import equiprune as ep\n\natoms.calc = ep.load("{path}").calculator()')
    yield from _exporting(f"{path}", facts.adapter, symbols)


def _exporting(path: str, name: str, symbols: Sequence[str]) -> Iterator[Block]:
    """A command line that writes the model in upstream's format, for LAMMPS too where a pair style is known."""
    adapter = next((each for each in usable_adapters() if each.name == name), None)
    if not isinstance(adapter, Exports) or not adapter.suffixes:
        return
    line = f"equiprune export {path} -o exported{adapter.suffixes[0]}"
    if not isinstance(adapter, HasPairStyles):
        yield Code("For the tools of its own package", line)
        return
    few = symbols if len(symbols) <= MOST else symbols[:3]
    script = f" --lammps in.exported --elements {','.join(few)}"
    yield Code("For the tools of its own package, LAMMPS among them", line + script)
    yield "The elements are the types of your data file, in their order; in.exported says what to run before."


def _headline(run: RunDirectory) -> Iterator[str]:
    """Sentences on what was gained and what it cost, by the model that all was for."""
    for timings in by_engine(run):
        first, named = timings[0], {run.name_of(m.model): m for m in timings}
        for name in sorted(run.names_of_result & named.keys()):
            ratio = f"{named[name].atoms_per_second / first.atoms_per_second:.2f} times as fast as"
            memory = named[name].peak_memory_bytes
            less = (
                f", with {memory / first.peak_memory_bytes:.2f} of its memory"
                if memory and first.peak_memory_bytes
                else ""
            )
            yield f"{ratio} {run.name_of(first.model)}{less} ({conditions(first)})."
    for each in run.of(Evaluation):
        errors = {run.name_of(m.model): m.forces_mae for m in each.content.models if m.forces_mae is not None}
        others = [f"{name} {number(value)}" for name, value in errors.items() if name not in run.names_of_result]
        for name in sorted(run.names_of_result & errors.keys()):
            beside = f" ({', '.join(others)})" if others else ""
            yield f"Forces of {_titled(run, each)} to {number(errors[name])} meV/Angstrom{beside}, mean absolute error."


def _made(facts: ModelFacts) -> list[str]:
    """Steps with the model they began from."""
    first = [str(facts.history[0].get("parent", ""))] if facts.history else []
    return [*first, *(str(step.get("step", "?")) for step in facts.history)]


# Errors, speed, and one against the other.


def _cost(run: RunDirectory) -> Iterator[Block]:
    for number_of, timings in enumerate(by_engine(run)):
        first = timings[0]
        speeds = {run.name_of(m.model): m.atoms_per_second / first.atoms_per_second for m in timings}
        measures = [measure for measure in _measures(run) if measure.of_model.keys() & speeds.keys()]
        if not measures:
            continue
        drawn = figures.errors_against_speed(speeds, measures)
        caption = f"Errors against speed, measured in turns: {conditions(first)}. Best is right and low."
        yield Figure(f"cost-{number_of}", drawn, caption)
        heads = ["model", "speed", *(measure.title for measure in measures)]
        rows = [
            [name, f"{speed:.2f}x", *(shown(measure.of_model.get(name)) for measure in measures)]
            for name, speed in speeds.items()
        ]
        yield Table(NUMBERS, rows, heads, folded=True)


def _measures(run: RunDirectory) -> Iterator[ErrorMeasure]:
    """Every error of models that was measured in this folder, forces first."""
    for quantity in ("forces", "energy", "stress"):
        for each in run.of(Evaluation):
            found = {m.model: getattr(m, f"{quantity}_mae") for m in each.content.models}
            yield from _measure(run, f"{quantity} of {_titled(run, each)}, MAE ({QUANTITIES[quantity]})", found)
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


def _titled(run: RunDirectory, each: Named[Evaluation]) -> str:
    """A name of an evaluation: of its data, where that is recorded."""
    return run.data_of(each.place) or each.place


def _errors(run: RunDirectory) -> Iterator[Block]:
    for number_of, each in enumerate(run.of(Evaluation)):
        models = [(run.name_of(model.model), model) for model in each.content.models]
        rows = [
            [name, *(_pair(getattr(m, f"{q}_mae"), getattr(m, f"{q}_rmse")) for q in QUANTITIES)] for name, m in models
        ]
        yield Table(f"{models[0][1].structures} structures of {_titled(run, each)}", rows, _ERRORS)
        for quantity, unit in (("energy", "eV/atom"), ("forces", "eV/Angstrom")):
            pairs = {name: m.parity[quantity] for name, m in models if m.parity.get(quantity)}
            if pairs:
                drawn = figures.parity(pairs, quantity, unit)
                caption = f"Predictions against labels, {quantity}, a sample of {_titled(run, each)}."
                yield Figure(f"parity-{number_of}-{quantity}", drawn, caption)
        if any(m.by_element for _, m in models):
            caption = f"Errors of forces by element, {_titled(run, each)}."
            yield Figure(f"elements-{number_of}", figures.periodic_table(models), caption)
            elements = list(dict.fromkeys(e for _, m in models for e in m.by_element))
            of = [[e, *(shown(m.by_element.get(e, {}).get("forces_mae")) for _, m in models)] for e in elements]
            yield Table(f"{NUMBERS}, meV/Angstrom", of, ["element", *(name for name, _ in models)], folded=True)


# What is true of the file, and what was taken out of it.


def _certificates(run: RunDirectory) -> Iterator[Block]:
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
        yield Table("", rows, ["check", "value", "limit", "unit", ""])
        if found.measured:
            yield Table("", [each.row() for each in found.measured], list(HEADS))
        yield from found.notes


def _removed(run: RunDirectory) -> Iterator[Block]:
    plans = run.result.content.plans if run.result is not None else []
    for number_of, plan in enumerate(plans):
        if not plan.masks:
            yield "No channel was removed."
            continue
        scores = _scores_of(run, plan)
        caption = "Each row is one irrep of one feature space; columns are channels. Coloured ones are kept, grey "
        caption += "ones removed." if scores else "ones removed. Without scores of the parent, importance is not shown."
        yield Figure(f"removed-{number_of}", figures.removed_blocks(plan, scores), caption)
        rows = [[name, str(mask.irreps), str(mask.kept_irreps)] for name, mask in plan.masks.items()]
        yield Table(NUMBERS, rows, ["space", "before", "after"], folded=True)


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
        yield Figure(f"search-{number_of}", figures.candidates(each.content), caption)
        heads, rows = ["candidate", "found", "shape", "speed, predicted", "forces after repair (meV/Angstrom)"], []
        for tried in each.content.tried:
            forces = NONE if tried.errors is None else f"{tried.errors.forces:.1f}"
            rows.append([str(tried.number), tried.made, tried.shape, f"{1 / tried.predicted.time:.2f}x", forces])
        yield Table(NUMBERS, rows, heads, folded=True)


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
        yield Figure(f"curve-{number_of}", figures.learning_curve(each.content), caption)


# Physics.


def _dynamics(run: RunDirectory) -> Iterator[Block]:
    for number_of, each in enumerate(run.of(DynamicsResult)):
        heads = ["model", "", "time (ps)", "drift (meV/atom/ps)", "temperature (K)", "ns/day", "crashed"]
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
            yield Figure(f"rdf-{number_of}-{pair}", figures.distributions(curves, pair), caption)


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
            heads = ["model", "", *(_with_unit(name.replace("_", " "), found.unit) for name, found in first.items())]
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
        yield Code("The commands", "\n".join(" ".join(stage.content.line) for stage in run.stages))


def _milli(value: float | None) -> float | None:
    return None if value is None else 1e3 * value


def _pair(mae: float | None, rmse: float | None) -> str:
    return "no labels" if mae is None else f"{number(mae)} ({shown(rmse)})"
