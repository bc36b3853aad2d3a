"""Running a recipe: each stage is a command line of its own, in a process of its own.

A stage therefore does exactly what its command does, also when it runs out of memory or is interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from equiprune.cli.display import note, show_json
from equiprune.cli.pipeline.calls import Call, foreseen, planned
from equiprune.cli.pipeline.stage_folder import Status
from equiprune.cli.process import Ended, launch, shown
from equiprune.cli.reports import SKIPPED, report, show_plan, show_reports
from equiprune.cli.words import request_of
from equiprune.commands.options.values import Output, Switch
from equiprune.commands.wiring import Requests
from equiprune.errors import EquipruneError, RecipeError
from equiprune.files.atomic import holding, make_folder, set_aside, spare, write_text


def run_command(app: App, requests: Requests) -> Callable[..., int]:
    """The command ``run``, whose stages are the commands of an app, by name."""

    def run(recipe: Path, /, *, output: Output, dry_run: Switch = False, json: Switch = False) -> int:
        """Run the stages of a recipe. Interrupted or changed, the same command goes on with what is not done.

        Args:
            recipe: stages as YAML: commands, with their flags as keys.
            output: folder of the pipeline, with a folder for every stage.
            dry_run: only print the commands of the stages, and which would be skipped.
            json: print one JSON document on stdout instead of text.
        """
        calls = planned(recipe, output, requests)
        check_calls(calls, app, requests)
        if dry_run:
            show_plan(foreseen(calls), as_json=json)
            return 0
        make_folder(output, "the folder of a pipeline")
        with held(output) as lock:
            done = run_all(calls, lock)
        if done.stages:
            show_json(done.to_json(output)) if json else show_reports(done.stages)
        return done.code

    return run


def held(folder: Path) -> AbstractContextManager[int | None]:
    """Nobody else works in the folder of a pipeline meanwhile."""
    return holding(
        folder, f"Another process works in '{folder}': a run, or a stage that went on when its run was killed."
    )


@dataclass(frozen=True)
class Done:
    """Stages that were run or skipped, and the exit code; there are none where it was stopped."""

    stages: Sequence[dict[str, Any]]
    code: int

    @property
    def results(self) -> dict[str, Any]:
        """Results of the stages by name."""
        return {stage["name"]: stage["result"] for stage in self.stages}

    def to_json(self, folder: Path) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        return {"folder": str(folder), "stages": list(self.stages)}


def check_calls(calls: Sequence[Call], app: App, requests: Requests) -> None:
    """Refuse what a command would refuse at once; raises `RecipeError` naming the stage.

    A stage that will be skipped is not asked: it may have run where there is a GPU, or a package for dashboards.
    """
    refused: dict[str, RecipeError] = {}
    for call in calls:
        try:
            request_of(app, call.line, requests[call.step.command])
        except (CycloptsError, EquipruneError) as error:
            refused[call.name] = RecipeError(f"{call.step.where}: {' '.join(str(error).split())}")
    for call, state in foreseen(calls) if refused else ():
        if call.name in refused and state.status is not Status.DONE:
            raise refused[call.name]


def run_all(calls: Sequence[Call], lock: int | None) -> Done:
    """Run what is not done, up to the first stage that fails or is stopped."""
    done: list[dict[str, Any]] = []
    for call in calls:
        ended = _run_one(call, lock)
        if ended and (ended.stopped or not ended.said):
            note(f"{call.name}: stopped. Finished stages are kept; repeat the command to go on.")
            return Done((), ended.code if ended.code > 0 else 2)
        done.append(report(call, "failed" if ended and ended.code else "done" if ended else SKIPPED))
        if ended and ended.code:
            note(f"{call.name}: a check failed, so the stages after it were not run. See '{call.folder.result}'.")
            break
    return Done(done, int(done[-1]["status"] == "failed"))


def _run_one(call: Call, lock: int | None) -> Ended | None:
    """Run a stage; None when there is nothing to do."""
    described, folder = call.described(), call.folder
    state = folder.state(described, call.step.keeps)
    if state.status is Status.DONE:
        note(f"{call.name}: {SKIPPED}")
        return None
    begun = state.status is Status.BEGUN
    if begun and call.step.product:  # a stage may outlive its run, which then records no end
        call.step.kind.ended(folder.path / call.step.product)
    if state.in_the_way:
        had = "what it does not go on from" if begun else "what it had"
        note(f"{call.name}: {state.why}; {had} is kept in '{spare(folder.path)}'")
        set_aside(folder.path, state.in_the_way)
    note(f"{call.name}: {'going on with ' if begun else ''}{shown(call.line)}")
    folder.begin(described, ["equiprune", *call.line])
    started = time.monotonic()
    ended = launch(call.line, lock)
    if ended.said:
        write_text(folder.result, ended.said)
    if ended.code == 0:
        folder.finish(call.outputs, time.monotonic() - started)
    return ended
