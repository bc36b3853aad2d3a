"""Running a recipe: each stage is a command line of its own, in a process of its own.

A stage therefore does exactly what its command does, also with several processes, when it runs out of memory and when
it is interrupted; signals are passed on to it.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cyclopts import App

from equiprune.cli.display import note, plain, show, show_json, show_table
from equiprune.cli.pipeline.stage_folder import Status
from equiprune.cli.pipeline.stages import Call, check, planned
from equiprune.commands.options.values import Output, Switch
from equiprune.errors import EquipruneError, OutputError, RecipeError
from equiprune.files.atomic import holding, read_json, write_text
from equiprune.training.signals import handling

_SKIPPED = "unchanged, skipped"


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, what it said on stdout, and whether it was asked to stop."""

    code: int
    said: str
    stopped: bool = False


def run_command(app: App) -> Callable[..., int]:
    """The command ``run``, whose stages are the commands of an app."""

    def run(recipe: Path, /, *, output: Output, dry_run: Switch = False, json: Switch = False) -> int:
        """Run the stages of a recipe. Interrupted or changed, the same command goes on with what is not done.

        Args:
            recipe: stages as YAML: commands, with their flags as keys.
            output: folder of the pipeline, with a folder for every stage.
            dry_run: only print the commands of the stages, and which would be skipped.
            json: print one JSON document on stdout instead of text.
        """
        calls = _planned(app, recipe, output)
        if dry_run:
            _show_plan(_foreseen(calls), as_json=json)
            return 0
        _make(output)
        at_work = f"Another process works in '{output}': a run, or a stage that went on when its run was killed."
        with holding(output, at_work) as lock:
            return _run_all(calls, output, lock, as_json=json)

    return run


def _planned(app: App, recipe: Path, folder: Path) -> list[Call]:
    """The command lines of a recipe, and no command would refuse its line at once.

    A stage that will be skipped is not asked: it may have run where there is a GPU, or a package for dashboards.
    """
    calls, refused = planned(app, recipe, folder), dict[str, RecipeError]()
    for call in calls:
        try:
            check(app, call)
        except RecipeError as error:
            refused[call.name] = error
    for item in _foreseen(calls) if refused else ():
        if item.call.name in refused and not item.skipped:
            raise refused[item.call.name]
    return calls


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be the folder of a pipeline ({error.strerror}).") from error


def _run_all(calls: Sequence[Call], folder: Path, lock: int | None, *, as_json: bool) -> int:
    """Run what is not done, up to the first stage that fails; the exit code."""
    done: list[dict[str, Any]] = []
    for call in calls:
        ended = _run_one(call, lock)
        if ended and (ended.stopped or not ended.said):
            note(f"{call.name}: stopped. Finished stages are kept; repeat the command to go on.")
            return ended.code if ended.code > 0 else 2
        done.append(_report(call, "failed" if ended and ended.code else "done" if ended else _SKIPPED))
        if ended and ended.code:
            note(f"{call.name}: a check failed, so the stages after it were not run. See '{call.folder.result}'.")
            break
    show_json({"folder": str(folder), "stages": done}) if as_json else _show_reports(done)
    return int(done[-1]["status"] == "failed")


def _run_one(call: Call, lock: int | None) -> Ended | None:
    """Run a stage; None when there is nothing to do."""
    described = call.described()
    status, why = call.folder.status(described)
    if status is Status.DONE:
        note(f"{call.name}: {_SKIPPED}")
        return None
    if in_the_way := call.folder.in_the_way(status, call.step.keeps):
        had = "what it does not go on from" if status is Status.BEGUN else "what it had"
        note(f"{call.name}: {why}; {had} is kept in '{call.folder.spare()}'")
        call.folder.set_aside(in_the_way)
    note(f"{call.name}: {'going on with ' if status is Status.BEGUN else ''}{_shown(call.words)}")
    call.folder.begin(described, ["equiprune", *call.words])
    started = time.monotonic()
    ended = launch(call.words, lock)
    if ended.said:
        write_text(call.folder.result, ended.said)
    if ended.code == 0:
        call.folder.finish(call.outputs, time.monotonic() - started)
    return ended


def launch(words: Sequence[str], lock: int | None) -> Ended:
    """Run a command line in a process of its own; its notes go where ours go.

    Args:
        words: what follows ``equiprune``.
        lock: the descriptor that holds the pipeline's folder. The process holds it too: it lives on when this one is
            killed, and nobody may then work beside it. None on Windows, where it cannot be handed on.

    Raises:
        EquipruneError: it was killed.
    """
    # Without -P a file of the working directory, such as torch.py, would stand in for the package of that name.
    command = [sys.executable, "-P", "-m", "equiprune", *words]
    # In a group of its own it gets Ctrl-C once, from here, and not from the terminal as well.
    how: dict[str, Any] = {} if lock is None else {"pass_fds": (lock,), "process_group": 0}
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, **how) as child, _passed_on(child, alone=lock is not None) as passed:
        said, _ = child.communicate()
    if child.returncode < 0 and not passed:
        name = signal.Signals(-child.returncode).name
        raise EquipruneError(
            f"'{_shown(words)}' was killed ({name}); SIGKILL is often a lack of memory. Finished stages are kept."
        )
    return Ended(child.returncode, said, bool(passed))


@contextmanager
def _passed_on(child: subprocess.Popen[str], *, alone: bool) -> Iterator[list[int]]:
    """Ctrl-C and requests to end go to the child, which ends as its command does; which ones there were.

    A child that is not ``alone`` in its group is sent Ctrl-C by the terminal.
    What is ignored (under nohup, of a job in the background of a script) is ignored by the child too.
    """
    passed: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        passed.append(number)
        if alone or number != signal.SIGINT:
            child.send_signal(number)

    with handling(pass_on):
        yield passed


def _report(call: Call, status: str) -> dict[str, Any]:
    """A stage as JSON."""
    return {
        "name": call.name,
        "command": call.step.stage.command,
        "status": status,
        "folder": str(call.folder.path),
        "product": str(call.folder.path / call.step.product) if call.step.product else None,
        "result": read_json(call.folder.result, "result of a stage"),
    }


_COLUMNS = {
    "model": "model",
    "energy_mae": "energy MAE (meV/atom)",
    "forces_mae": "forces MAE (meV/Angstrom)",
    "stress_mae": "stress MAE (meV/Angstrom^3)",
    "atoms_per_second": "atoms/s",
    "seconds_median": "median (s)",
    "peak_memory_bytes": "peak memory (bytes)",
}
"""What is shown of stages that compare models; result.json has everything."""


def _show_reports(stages: Sequence[Mapping[str, Any]]) -> None:
    """What happened, and the tables of the stages that compare models."""
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


# A dry run.


@dataclass(frozen=True)
class Foreseen:
    """What a run would do with a stage: skip it or not, why, and what it would set aside before."""

    call: Call
    skipped: bool
    why: str
    in_the_way: Sequence[Path] = ()


def _foreseen(calls: Sequence[Call]) -> list[Foreseen]:
    """What a run would do; what a stage will give is not known before it has run."""
    found: list[Foreseen] = []
    for call in calls:
        waits_for = [f.call.name for f in found if not f.skipped and f.call.name in call.upstream]
        if not call.folder.path.exists():
            found.append(Foreseen(call, skipped=False, why=""))
            continue
        if waits_for:
            why, changed = f"unless {waits_for[0]} gives the same as before", Status.CHANGED
            found.append(Foreseen(call, False, why, call.folder.in_the_way(changed, call.step.keeps)))
            continue
        status, why = call.folder.status(call.described())
        going_on = "going on" if status is Status.BEGUN else why
        in_the_way = call.folder.in_the_way(status, call.step.keeps)
        found.append(Foreseen(call, status is Status.DONE, going_on, in_the_way))
    return found


def _show_plan(plan: Sequence[Foreseen], *, as_json: bool) -> None:
    if as_json:
        facts = [
            {"name": f.call.name, "would_run": not f.skipped, "why": f.why, "command": ["equiprune", *f.call.words]}
            for f in plan
        ]
        show_json({"stages": facts})
        return
    for item in plan:
        show("\n".join(_script(item)))


def _script(item: Foreseen) -> Iterator[str]:
    """Lines for a shell; those of a stage that would be skipped are comments."""
    folder, comment = item.call.folder, "# " if item.skipped else ""
    verdict = _SKIPPED if item.skipped else f"would run{f' ({item.why})' if item.why else ''}"
    yield f"# {item.call.name}: {verdict}"
    if item.in_the_way and folder.path not in item.in_the_way:
        yield f"mkdir {shlex.quote(str(folder.spare()))}"
    if item.in_the_way:
        yield f"mv {shlex.join(map(str, item.in_the_way))} {shlex.quote(str(folder.spare()))}"
    yield f"{comment}mkdir -p {shlex.quote(str(folder.path))}"
    yield f"{comment}{_shown(item.call.words)} > {shlex.quote(str(folder.result))}"


def _shown(words: Sequence[str]) -> str:
    return shlex.join(["equiprune", *words])
