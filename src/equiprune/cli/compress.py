"""The command ``compress``: a recipe is made and run, and a page says what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from cyclopts import App, Parameter

from equiprune.cli.arguments import described, switch
from equiprune.cli.display import note, show, show_json
from equiprune.cli.pipeline.calls import Call, calls_of, foreseen
from equiprune.cli.pipeline.recipe import parse_pipeline
from equiprune.cli.pipeline.run import Done, check_calls, held, run_all
from equiprune.cli.reports import show_plan
from equiprune.cli.results import JSON
from equiprune.commands.compress import MEMORY, Compress, anywhere
from equiprune.commands.options.values import Switch
from equiprune.commands.search import go_on_from
from equiprune.commands.wiring import Requests
from equiprune.files.atomic import make_folder, read_json, replacing, set_aside, spare, write_text
from equiprune.report.report import report_page
from equiprune.searching.budget import Budget, Cost
from equiprune.searching.journal import Errors, Journal
from equiprune.structures.reading import fingerprint

DRY_RUN = Annotated[Switch, Parameter(help="only print the commands of the stages, and which would be skipped.")]
RECIPE, REPORT, PAGE, MODEL = "recipe.yaml", "report.md", "report.html", "model"
_RESULT = "result"
"""Name of the result on the page, whether it is delivered or not."""
_TOLERATED = 1 / 0.95
"""Measured cost over the budget, above which the result has missed it."""
_SEARCHES = 2
"""Times that a search goes on after its choice was finished and missed the budget."""
_BEYOND = 1.1
"""Memory that a result is taken to need over all that it could have, where it ran out of that."""
_NOT_DELIVERED = (
    f"So there is no '{MODEL}': it stays in 'train'. Timings of a busy machine vary: the same command measures again, "
    "and goes on with the search if need be. Or ask for a little more."
)
_ERRORS = {
    "energy_mae": "energy (meV/atom)",
    "forces_mae": "forces (meV/Angstrom)",
    "stress_mae": "stress (meV/Angstrom^3)",
}

Results = Mapping[str, Any]
"""Results of stages by name."""


def compress_command(app: App, requests: Requests) -> Callable[..., int]:
    """The command ``compress``, whose stages are the commands of an app, by name."""

    def compress(*given: Any, dry_run: bool = False, json: bool = False, **named: Any) -> int:
        asked = Compress(*given, **named)
        text = recipe_of(asked)
        calls = calls_of(parse_pipeline(text, requests), Path.cwd(), asked.output.absolute(), requests)
        check_calls(calls, app, requests)
        if dry_run:
            show_plan(foreseen(calls), as_json=json)
            return 0
        make_folder(asked.output, "the folder of what is made")
        with held(asked.output) as lock:
            write_text(asked.output / RECIPE, text)
            done = _run_until_kept(asked, calls, lock)
            if done.code:
                return done.code
            results = done.results
            missed = missed_budget(asked, results)
            if missed:
                _withdraw(asked.output / MODEL)
                missed = f"{missed} {_NOT_DELIVERED}"
            else:
                _deliver(asked.output, calls)
            page = "\n".join(report_lines(asked, results, missed))
            write_text(asked.output / REPORT, page + "\n")
            write_text(asked.output / PAGE, report_page(asked.output))
        show_json(_document(asked, results, missed)) if json else show(page)
        return int(bool(missed))

    described(compress, Compress, [switch("dry_run", DRY_RUN), switch("json", JSON)])
    return compress


def recipe_of(asked: Compress) -> str:
    """The recipe as YAML, which 'equiprune run' understands as well."""
    stages = yaml.safe_dump({"model": anywhere(asked.model), "stages": asked.stages()}, sort_keys=False, width=120)
    made = f"# {asked.model}, {asked.asked}: made by 'equiprune compress'; 'equiprune run' runs it, changed or not."
    return f"{made}\n{stages}"


def _deliver(folder: Path, calls: Sequence[Call]) -> None:
    """Copy the trained model to where it is looked for; one of another budget is set aside."""
    [made] = [call.folder.path / str(call.step.product) for call in calls if call.name == "train"]
    model = folder / MODEL
    if model.exists():
        if fingerprint(model) == fingerprint(made):
            return
        _withdraw(model)
    with replacing(model) as temporary:
        shutil.copytree(made, temporary)


def _withdraw(model: Path) -> None:
    """Set a model aside that was delivered before."""
    if model.exists():
        note(f"'{model}' was delivered before; it is kept in '{spare(model)}'.")
        set_aside(model, [model])


def _run_until_kept(asked: Compress, calls: Sequence[Call], lock: int | None) -> Done:
    """Run the stages until the result keeps the budget: what misses it is measured again, then the search goes on."""
    for search_on in (False, True) * _SEARCHES:
        done = run_all(calls, lock)
        missed = "" if done.code else missed_budget(asked, done.results)
        if not missed:
            return done
        note(f"{missed} {'The search goes on.' if search_on else 'It is measured again.'}")
        if search_on:
            _search_on(asked.asked, calls, done.results)
        _measure_again(calls)
    return run_all(calls, lock)


def _measure_again(calls: Sequence[Call]) -> None:
    """The next run of the stages measures the result again."""
    for call in calls:
        if call.step.command == "benchmark":
            shutil.rmtree(call.folder.path)


def _search_on(budget: Budget, calls: Sequence[Call], results: Results) -> None:
    """The next run of the stages goes on with the search, which knows what its choice really costs and reaches."""
    search = _search_of(calls)
    value = read_json(_found(search), "outcome of a search")
    journal, chosen = Journal.from_json(value), value["chosen"]
    if _cost_missed(budget, results):
        journal = journal.missed(chosen, cost_at_the_end(results))
    if _forces_missed(budget, results):
        journal = _with_errors(journal, chosen, errors_at_the_end(results))
    go_on_from(journal, _found(search))
    search.folder.reopen()


def _search_of(calls: Sequence[Call]) -> Call:
    return next(call for call in calls if call.name == "search")


def _found(search: Call) -> Path:
    return search.folder.path / "search.json"


def _with_errors(journal: Journal, number: int, errors: Errors) -> Journal:
    """The journal in which a finalist has these errors; what was tried later was for those that it had before."""
    tried = tuple(each for each in journal.tried if each.number <= number)
    kept = [each for each in journal.finalists if each.number <= number]
    finalists = tuple(replace(each, errors=errors) if each.number == number else each for each in kept)
    return replace(journal, tried=tried, finalists=finalists)


def missed_budget(asked: Compress, results: Results) -> str:
    """Sentence on a budget that the measured result does not keep; empty if it does."""
    budget = asked.asked
    if not (_cost_missed(budget, results) or _forces_missed(budget, results)):
        return ""
    return f"The result {', '.join(_reached(budget, results))}, measured at the end; asked for was {budget}."


def _cost_missed(budget: Budget, results: Results) -> bool:
    return budget.excess(cost_at_the_end(results)) > _TOLERATED


def _forces_missed(budget: Budget, results: Results) -> bool:
    return budget.max_force_error is not None and errors_at_the_end(results).forces > budget.max_force_error


def _reached(budget: Budget, results: Results) -> Iterator[str]:
    cost = cost_at_the_end(results)
    yield f"is {cost.speed:.2f} times as fast as its parent"
    peak = _peak(results)
    if budget.atoms is not None and peak is not None:
        yield f"needs {peak.more}{peak.size / peak.atoms * budget.atoms / 1e9:.3g} GB"
    if budget.max_force_error is not None:
        forces = errors_at_the_end(results).forces
        yield f"has forces {forces:.1f} meV/Angstrom from the labels of structures that were held out"


def cost_at_the_end(results: Results) -> Cost:
    """Cost of the result beside its parent, measured when it was finished; memory where that is limited."""
    parent, child = (each["atoms_per_second"] for each in results["benchmark"][:2])
    peak = _peak(results)
    per_atom = None if peak is None else peak.per_atom
    return Cost(float(parent / child), per_atom, results["search"]["measured"]["parameters"])


@dataclass(frozen=True)
class _Peak:
    """Peak memory of the result.

    Attributes:
        atoms: that were evaluated.
        size: bytes.
        exceeded: more was needed, and there was no more.
    """

    atoms: int
    size: int
    exceeded: bool

    @property
    def per_atom(self) -> float:
        """Bytes per atom, by which the search goes on."""
        return (_BEYOND if self.exceeded else 1) * self.size / self.atoms

    @property
    def more(self) -> str:
        return "more than " if self.exceeded else ""


def _peak(results: Results) -> _Peak | None:
    """Peak memory as it was measured at the end; None where it is not limited or not measured."""
    match results.get(MEMORY):
        case {"out_of_memory": {"atoms": atoms, "available_bytes": size}}:
            return _Peak(atoms, size, exceeded=True)
        case [{"atoms": atoms, "peak_memory_bytes": int(size)}]:
            return _Peak(atoms, size, exceeded=False)
    return None


def errors_at_the_end(results: Results) -> Errors:
    """Errors of the trained result on structures that the training held out."""
    [trained] = [each for each in results["train"]["accuracy"] if each["model"] == "trained"]
    return Errors(trained["energy_mae"], trained["forces_mae"])


def _document(asked: Compress, results: Results, missed: str) -> dict[str, Any]:
    """The outcome as JSON."""
    search = results["search"]
    return {
        "model": None if missed else str(asked.output / MODEL),
        "report": str(asked.output / REPORT),
        "budget": search["budget"],
        "speed": cost_at_the_end(results).speed,
        "budget_kept": not missed,
        "reason": search["reason"],
        "certified": results["certify"]["passed"],
        "stages": dict(results),
    }


# The page.


def report_lines(asked: Compress, results: Results, missed: str) -> Iterator[str]:
    """Lines of the page, as Markdown."""
    search, timings = results["search"], results["benchmark"]
    yield f"# {asked.model}, made smaller"
    yield ""
    yield f"Asked for: {asked.asked}. {search['reason']}"
    if missed:
        yield ""
        yield f"**{missed}**"
    yield ""
    first = timings[0]
    yield (
        f"Energy, forces and stress of {first['atoms']} atoms, {first['dtype']}, {first['backend']}, "
        f"{first['threads']} threads, models in turns:"
    )
    yield ""
    yield "| model | atoms/s | speed | peak memory (MiB) |"
    yield "|---|---|---|---|"
    for name, timing in zip(_names(asked), timings, strict=True):
        memory = timing["peak_memory_bytes"]
        shown = "not measured" if memory is None else f"{memory / 2**20:.0f}"
        ratio = timing["atoms_per_second"] / first["atoms_per_second"]
        yield f"| {name} | {timing['atoms_per_second']:.0f} | {ratio:.2f}x | {shown} |"
    peak = _peak(results)
    if peak is not None:
        yield ""
        yield f"Peak memory of the {_RESULT} for {peak.atoms} atoms: {peak.more}{peak.size / 1e9:.3g} GB."
    yield from _errors_lines("Differences from the parent, on structures that were held out", _of_training(results))
    if "evaluate" in results:
        named = list(zip(_names(asked), results["evaluate"], strict=True))
        yield from _errors_lines(f"Errors against the labels of {asked.test}", named)
    yield ""
    yield f"Certificate: **{'passed' if results['certify']['passed'] else 'FAILED'}**, see `certify/certificate.md`."
    yield "All candidates: `search/search.json`, and as a picture `search/front.png`. The stages: `recipe.yaml`."
    yield f"All of this with figures, for a browser: `{PAGE}`."
    if not missed:
        yield from _use_lines(asked.output / MODEL)
    yield ""
    yield "The licence of the parent's weights holds."


def _use_lines(model: Path) -> Iterator[str]:
    yield ""
    yield "```python"
    yield "import equiprune as ep"
    yield f'atoms.calc = ep.load("{model}").calculator()'
    yield "```"
    yield ""
    yield "For the tools of its own package, such as LAMMPS: 'equiprune export'."


def _names(asked: Compress) -> list[str]:
    """Models as the page calls them."""
    return [asked.model, _RESULT, *(asked.beside or [])]


def _of_training(results: Results) -> list[tuple[str, Mapping[str, Any]]]:
    names = {"start": "pruned and repaired", "trained": _RESULT}
    return [(names.get(each["model"], each["model"]), each) for each in results["train"]["accuracy"]]


def _errors_lines(title: str, errors: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    columns = [column for column in _ERRORS if any(each.get(column) is not None for _, each in errors)]
    yield ""
    yield f"{title} (mean absolute):"
    yield ""
    yield f"| model | {' | '.join(_ERRORS[column] for column in columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, each in errors:
        cells = ["no labels" if each[column] is None else f"{each[column]:.1f}" for column in columns]
        yield f"| {name} | {' | '.join(cells)} |"
