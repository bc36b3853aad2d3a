"""The command line: the commands by name, and every error a user can mend as one message.

Each command is one request of `equiprune.commands`. Results go to stdout (``--json``: one JSON document and nothing
else), progress and notes to stderr. Exit codes: 0 success, 2 the user can mend it (one message, no traceback), 1 a
check failed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from cyclopts import App, CycloptsError

from equiprune.cli.display import note
from equiprune.cli.pipeline.run import run_command
from equiprune.cli.results import SHOWN
from equiprune.cli.words import command, flags_of, in_flags
from equiprune.commands.request import remarks
from equiprune.errors import EquipruneError

app = App(
    name="equiprune",
    help="Make equivariant interatomic potentials smaller and faster, with the numbers right.",
    suppress_keyboard_interrupt=False,
)
for _request, _shown in SHOWN.items():
    app.command(command(_request, _shown))


@app.command
def demo(output: Path = Path("demo_output"), /) -> int:
    """The main job on a real model that comes with pip install: calibrate, prune, certify, evaluate, time, save.

    Args:
        output: folder for what the demo writes; must not exist yet.
    """
    from equiprune.cli.demo import run_demo

    run_demo(output)
    return 0


app.command(run_command(app, {request.command(): request for request in SHOWN}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code instead of raising for anything a user can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    flags = flags_of(app, words[0]) if words and words[0] in _OWN_FLAGS else {}
    try:
        with _remarks_shown(flags):
            return app(words, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except EquipruneError as error:
        return _complain(in_flags(str(error), flags))
    except CycloptsError as error:
        return _complain(f"{' '.join(str(error).split())} See 'equiprune --help'.")
    except KeyboardInterrupt:
        return _complain("Interrupted before the end. Repeat the command to start again.")
    except (MemoryError, torch.OutOfMemoryError):
        return _complain(
            "Out of memory. Evaluate fewer atoms at once (--batch-atoms; for train --batch-size) or smaller structures."
        )
    except OSError as error:
        return _complain(f"{error.strerror or error} ({error.filename or 'no file named'}).")


_OWN_FLAGS = frozenset(request.command() for request in SHOWN)
"""Commands whose arguments messages call by their flags; a recipe has keys."""


def _complain(message: str) -> int:
    print(f"equiprune: {message}", file=sys.stderr)
    return 2


@contextmanager
def _remarks_shown(flags: Mapping[str, str]) -> Iterator[None]:
    """Show the remarks of commands on stderr, one line each."""
    handler = _Notes(flags)
    before = {name: getattr(remarks, name) for name in ("handlers", "level", "propagate")}
    remarks.handlers, remarks.propagate = [handler], False
    remarks.setLevel(logging.INFO)
    try:
        yield
    finally:
        remarks.handlers, remarks.propagate = before["handlers"], before["propagate"]
        remarks.setLevel(before["level"])


class _Notes(logging.Handler):
    """Writes what is logged as notes."""

    def __init__(self, flags: Mapping[str, str]) -> None:
        super().__init__()
        self.flags = flags

    def emit(self, record: logging.LogRecord) -> None:
        note(in_flags(record.getMessage(), self.flags))
