"""Runs of pipelines in words: what would be done, as a script, and what was done, with tables."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from equiprune.cli.display import plain, show, show_json, show_table
from equiprune.cli.pipeline.calls import Call
from equiprune.cli.pipeline.stage_folder import State, Status
from equiprune.cli.process import shown
from equiprune.files.atomic import read_json, spare

SKIPPED = "unchanged, skipped"

_COLUMNS = {
    "model": "model",
    "energy_mae": "energy MAE (meV/atom)",
    "forces_mae": "forces MAE (meV/Angstrom)",
    "stress_mae": "stress MAE (meV/Angstrom^3)",
    "atoms_per_second": "atoms/s",
    "seconds_median": "median (s)",
    "peak_memory_bytes": "peak memory (bytes)",
}
"""Columns of stages that compare models; result.json has everything."""


def show_reports(stages: Sequence[Mapping[str, Any]]) -> None:
    """Show the stages that were run, and the tables of those that compare models."""
    rows = [[stage["name"], stage["command"], stage["status"], stage["product"] or ""] for stage in stages]
    show_table("", [["stage", "command", "", "gives"], *rows])
    names = {stage["product"]: stage["name"] for stage in stages}
    for stage in stages:
        if isinstance(stage["result"], list):
            results = [{**result, "model": names.get(result["model"], result["model"])} for result in stage["result"]]
            show_table(stage["name"], _rows(results))


def _rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each model."""
    columns = [column for column in _COLUMNS if column in results[0]]
    return [[_COLUMNS[c] for c in columns], *([_cell(c, result[c]) for c in columns] for result in results)]


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "not measured" if column == "peak_memory_bytes" else "no labels"
    return f"{value:.4g}" if isinstance(value, float) else plain(value)


def _script(call: Call, state: State) -> Iterator[str]:
    """Lines for a shell that do what a run would do; those of a stage that would be skipped are comments."""
    folder, skipped, why = call.folder, state.status is Status.DONE, _why(state)
    comment = "# " if skipped else ""
    yield f"# {call.name}: {SKIPPED if skipped else f'would run ({why})' if why else 'would run'}"
    if state.in_the_way and folder.path not in state.in_the_way:
        yield f"mkdir {shlex.quote(str(spare(folder.path)))}"
    if state.in_the_way:
        yield f"mv {shlex.join(map(str, state.in_the_way))} {shlex.quote(str(spare(folder.path)))}"
    yield f"{comment}mkdir -p {shlex.quote(str(folder.path))}"
    yield f"{comment}{shown(call.line)} > {shlex.quote(str(folder.result))}"


def show_plan(plan: Sequence[tuple[Call, State]], *, as_json: bool) -> None:
    """Show the stages that would be run, as a script."""
    if as_json:
        show_json({"stages": [_foreseen(*item) for item in plan]})
        return
    for item in plan:
        show("\n".join(_script(*item)))


def _foreseen(call: Call, state: State) -> dict[str, Any]:
    runs, line = state.status is not Status.DONE, ["equiprune", *call.line]
    return {"name": call.name, "would_run": runs, "why": _why(state), "command": line}


def _why(state: State) -> str:
    return "going on" if state.status is Status.BEGUN else state.why


def report(call: Call, status: str) -> dict[str, Any]:
    """A stage that was run, or skipped, as JSON."""
    product = str(call.folder.path / call.step.product) if call.step.product else None
    facts = {"name": call.name, "command": call.step.command, "status": status, "folder": str(call.folder.path)}
    return facts | {"product": product, "result": read_json(call.folder.result, "result of a stage")}
