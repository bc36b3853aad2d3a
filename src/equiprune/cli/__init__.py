"""The command line: the commands by name, and every error a user can mend as one message.

Each command is one call of the public API. Results go to stdout (``--json``: one JSON document and nothing else),
progress and notes to stderr. Exit codes: 0 success, 2 the user can mend it (one message, no traceback), 1 a check
failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from cyclopts import App, CycloptsError

from equiprune.cli.commands.checks import benchmark, certify, evaluate
from equiprune.cli.commands.labelling import label
from equiprune.cli.commands.models import demo, export, info
from equiprune.cli.commands.pruning import calibrate, prune
from equiprune.cli.commands.stability import stability
from equiprune.cli.commands.training import train
from equiprune.cli.pipeline.run import run_command
from equiprune.errors import EquipruneError

app = App(
    name="equiprune",
    help="Make equivariant interatomic potentials smaller and faster, with the numbers right.",
    suppress_keyboard_interrupt=False,
)
for _command in (info, calibrate, prune, certify, evaluate, benchmark, export, label, train, stability, demo):
    app.command(_command)
app.command(run_command(app))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code instead of raising for anything a user can mend."""
    try:
        return app(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except EquipruneError as error:
        return _complain(str(error))
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


def _complain(message: str) -> int:
    print(f"equiprune: {message}", file=sys.stderr)
    return 2
