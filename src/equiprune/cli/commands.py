"""The commands as functions: from words to a request, and from its result to what is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from equiprune.cli import app
from equiprune.cli.arguments import described, switch
from equiprune.cli.compress import compress_command
from equiprune.cli.display import progresses, show, show_json
from equiprune.cli.job_array import DRY_RUN, job_array
from equiprune.cli.pipeline.run import run_command
from equiprune.cli.results import JSON, SHOWN
from equiprune.cli.words import WORDS
from equiprune.commands.request import Request
from equiprune.commands.sharing import SharedRequest
from equiprune.evaluation.memory import keep_freed_memory


def command(request: type[Request[Any]], shown: Callable[[Any], None]) -> Callable[..., int]:
    """A function that takes what a request takes, and ``json``; runs it, shows the result and gives the exit code.

    Args:
        request: its fields are the arguments: those that are not for keywords only have their place.
        shown: writes the result for people.
    """

    def run(*given: Any, json: bool = False, dry_run: bool = False, **named: Any) -> int:
        asked = request(*given, **named)
        if isinstance(asked, SharedRequest) and dry_run:
            show(job_array(WORDS.get(), asked.sharing.processes, gpu=asked.device.startswith("cuda")))
            return 0
        if not asked.measures:
            keep_freed_memory()
        result = asked.run(progresses)
        if result is None:  # another process has it
            return 0
        show_json(result.to_json()) if json else shown(result)
        return 0 if getattr(result, "passed", True) else 1

    run.__name__ = request.command()
    switches = [switch("dry_run", DRY_RUN)] if issubclass(request, SharedRequest) else []
    described(run, request, [*switches, switch("json", JSON)])
    return run


def demo(output: Path = Path("demo_output"), /) -> int:
    """The main job on a real model that comes with pip install: calibrate, prune, certify, retrain, evaluate, time.

    Args:
        output: folder for what the demo writes; must not exist yet.
    """
    from equiprune.cli.demo import run_demo

    run_demo(output)
    return 0


REQUESTS = {request.command(): request for request in SHOWN}
"""Commands by name, which can be stages of a pipeline."""

run = run_command(app, REQUESTS)
compress = compress_command(app, REQUESTS)


def __getattr__(name: str) -> Callable[..., int]:
    """The function of a command, by its name."""
    if name not in REQUESTS:
        raise AttributeError(f"There is no command '{name}'.")
    return command(REQUESTS[name], SHOWN[REQUESTS[name]])
