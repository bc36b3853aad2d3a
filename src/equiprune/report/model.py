"""The model that a run was for: what it is for, where it is from, and how to load it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ase.data import chemical_symbols

from equiprune.evaluation.properties.comparison import number
from equiprune.report.conditions import conditions, said
from equiprune.report.model_facts import ModelFacts, OpenedModel, Unopened
from equiprune.report.parts import NONE, Block, Table
from equiprune.report.purpose import purpose
from equiprune.report.results import Evaluation
from equiprune.report.run_directory import RunDirectory
from equiprune.report.speed import by_engine


def the_model(run: RunDirectory) -> Iterator[Block]:
    """Sentences of what it is for, what was gained and what it cost, and a table of what is on record."""
    for each in run.unopened:
        yield f"{each.place} cannot be opened: {run.without_folder(each.content.reason)}"
    if run.result is None or run.opened is None:
        return
    facts, found = run.result.content, run.opened
    parameters = found.parameters if isinstance(found, OpenedModel) else None
    yield purpose(facts, parameters, _training_data(run))
    if isinstance(found, Unopened):
        yield f"{run.result.place} cannot be opened: {run.without_folder(found.reason)}"
    yield from _headline(run)
    yield Table("", list(_rows(run.result.place, _called(run), facts, found)))


def _rows(place: str, called: Sequence[str], facts: ModelFacts, found: OpenedModel | Unopened) -> Iterator[list[str]]:
    symbols = [chemical_symbols[z] for z in sorted(facts.elements)]
    yield ["in this folder", place]
    if called:
        yield ["called in figures and tables", ", ".join(called)]
    yield ["architecture", facts.adapter]
    yield ["elements", ", ".join(symbols) if len(symbols) <= _FEW else f"{len(symbols)}: {', '.join(symbols)}"]
    yield ["cutoff", f"{facts.cutoff:g} Angstrom"]
    if isinstance(found, OpenedModel):
        yield ["parameters", f"{found.parameters.trainable:,} trainable, {found.parameters.all:,} in all"]
    yield ["licence of the weights", facts.licence]
    yield ["made by", " -> ".join(_made(facts)) or "no step that is recorded"]
    digest = found.checkpoint.sha256 if isinstance(found, OpenedModel) else ""
    yield ["sha256 of the model", digest or NONE]
    name, of_parent = facts.parent
    if name or of_parent:
        yield [f"sha256 of its parent {name}".rstrip(), of_parent or "not recorded"]
    versions = ", ".join(f"{package} {version}" for package, version in facts.versions.items())
    yield ["packages that wrote it", versions or "not recorded in this format"]


_FEW = 12
"""Elements that are not counted for the reader."""


def _called(run: RunDirectory) -> list[str]:
    """Names that results have for the model, where they are not its place."""
    measured = {m.model for each in run.of(Evaluation) for m in each.content.models}
    measured |= {m.model for timings in by_engine(run) for m in timings}
    others = run.names_of_result - {run.result.place if run.result is not None else ""}
    return sorted({run.name_of(model) for model in measured} & others)


def _made(facts: ModelFacts) -> list[str]:
    """Steps with the model they began from."""
    first = [facts.parent[0]] if facts.history else []
    return [*first, *(str(step.get("step", "?")) for step in facts.history)]


def _training_data(run: RunDirectory) -> tuple[str, ...]:
    """Names of the data files that stages of training were given."""
    names = (run.data_of(stage.place) for stage in run.stages if stage.content.command == "train")
    return tuple(dict.fromkeys(filter(None, names)))


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
            yield f"{ratio} {run.name_of(first.model)}{less} ({said(conditions(first))})."
    for each in run.of(Evaluation):
        errors = {run.name_of(m.model): m.forces_mae for m in each.content.models if m.forces_mae is not None}
        others = [f"{name} {number(value)}" for name, value in errors.items() if name not in run.names_of_result]
        for name in sorted(run.names_of_result & errors.keys()):
            beside = f" ({', '.join(others)})" if others else ""
            yield (
                f"Forces of {run.title_of(each.place)} to {number(errors[name])} meV/Angstrom{beside}, "
                "mean absolute error."
            )
