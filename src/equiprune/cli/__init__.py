"""The command line: the commands by name, and every error a user can mend as one message.

Each command is one request of `equiprune.commands`. Results go to stdout (``--json``: one JSON document and nothing
else), progress and notes to stderr. Exit codes: 0 success, 2 the user can mend it (one message, no traceback), 1 a
check failed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from cyclopts import App, CycloptsError, MissingArgumentError

from equiprune.cli.display import note
from equiprune.cli.words import WORDS, flags_of, in_flags, takes_what_follows, with_elements_joined
from equiprune.errors import EquipruneError, closest

COMMANDS: Mapping[str, str] = {
    "compress": (
        "Make a model that keeps a budget: search, prune, repair, train, check. Interrupted, the same command goes on."
    ),
    "info": "Show what a model is: architecture, spaces, parameters, elements, licence, dead blocks.",
    "calibrate": "Score every block of every feature space on structures. Interrupted, the same command goes on.",
    "search": (
        "Look for the best model that keeps a budget; 'prune --plan' makes it. Interrupted, the same command goes on."
    ),
    "prune": "Write the smaller model that the targets ask for. The suffix of the output chooses the format.",
    "repair": (
        "Fit a pruned model's linear maps to its parent's features: no labels, no training. Retrain it afterwards."
    ),
    "certify": (
        "Check a model in float64: exactly its pruned parent, equivariant, conservative, smooth. Exit code 1 if not."
    ),
    "evaluate": "Errors of one or more models against labelled structures, side by side.",
    "benchmark": "Time models side by side, taking turns on the same structure.",
    "md": ("Molecular dynamics of models from the same start, side by side. Interrupted, the same command goes on."),
    "discovery": (
        "Do models find the stable materials? Matbench Discovery's task. Interrupted, the same command goes on."
    ),
    "properties": (
        "Are models physically right? Crystals at rest, elasticity, phonons, pairs of atoms, locality, side by side."
    ),
    "export": (
        "Write a model in another format, chosen by the suffix, and compare it with the stock tool before saying done."
    ),
    "label": (
        "Write structures with labels of a model: energy, forces, stress, atom energies. Interrupted, it goes on."
    ),
    "convert": (
        "Write structures of any format to one file in eV and Angstrom, and count what was kept, skipped and why."
    ),
    "crystals": (
        "Write structures to start from, with no data at all: simple crystals, defects, random cells, pairs of atoms."
    ),
    "train": (
        "Train a model on labelled structures: retraining and fine-tuning. Interrupted, the same command goes on."
    ),
    "stability": (
        "Did training change what matters? Rank correlation and overlap of Taylor importance before and after."
    ),
    "report": "Write one page about a run: what was gained, what it cost, what was checked. It needs no network.",
    "doctor": (
        "Show what this machine has: devices, packages, engines, extras, known traps; and what a model costs on it."
    ),
    "demo": (
        "The main job on a real model that comes with pip install: calibrate, prune, certify, retrain, evaluate, time."
    ),
    "run": "Run the stages of a recipe. Interrupted or changed, the same command goes on with what is not done.",
}
"""Help of each command, as its docstring begins: a command is imported, and torch with it, only when needed."""

app = App(
    name="equiprune",
    help="Make equivariant interatomic potentials smaller and faster, with the numbers right.",
    suppress_keyboard_interrupt=False,
)
for _name, _help in COMMANDS.items():
    app.command(f"equiprune.cli.commands:{_name}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code instead of raising for anything a user can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def said(message: str) -> str:
        """A message in words of the command line; a recipe has keys."""
        own = words and words[0] in COMMANDS and words[0] != "run"
        return in_flags(message, _flags(words[0])) if own else message

    if words and words[0] not in COMMANDS and not words[0].startswith("-"):
        known = ", ".join(COMMANDS)  # said here: cyclopts would import every command, and torch, to say it
        return _complain(f"There is no command '{words[0]}'.{closest(words[0], COMMANDS)} There are {known}.")
    words = with_elements_joined(words)
    WORDS.set(words)
    try:
        with _remarks_shown(said):
            return app(words, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except EquipruneError as error:
        return _complain(said(str(error)))
    except CycloptsError as error:
        return _complain(_of_arguments(error, words))
    except KeyboardInterrupt:
        return _complain("Interrupted before the end. Repeat the command to start again.")
    except OSError as error:
        return _complain(f"{error.strerror or error} ({error.filename or 'no file named'}).")
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        return _complain(
            "Out of memory. Evaluate fewer atoms at once (--batch-atoms; for train --batch-size) or smaller structures."
        )


def _of_arguments(error: CycloptsError, words: Sequence[str]) -> str:
    """The message of an error in the arguments, with what helps."""
    said = " ".join(str(error).split())
    if not words or words[0] not in COMMANDS:
        return f"{said} See 'equiprune --help'."
    absent = error.argument if isinstance(error, MissingArgumentError) else None
    flag = takes_what_follows(app, words) if absent and absent.field_info.is_positional else None
    before = f" {flag} takes every word up to the next flag: give {absent.name} before it." if absent and flag else ""
    return f"{said}{before} See 'equiprune {words[0]} --help'."


@cache
def _flags(command: str) -> Mapping[str, str]:
    """Listing them takes long enough to be noticed with every remark."""
    return flags_of(app, command)


def _out_of_memory(error: Exception) -> bool:
    from equiprune.potentials.out_of_memory import is_out_of_memory  # imports torch, as what raised the error has done

    return is_out_of_memory(error)


def _complain(message: str) -> int:
    print(f"equiprune: {message}", file=sys.stderr)
    return 2


@contextmanager
def _remarks_shown(said: Callable[[str], str]) -> Iterator[None]:
    """Show the remarks of commands on stderr, one line each."""
    remarks = logging.getLogger("equiprune")
    before = {name: getattr(remarks, name) for name in ("handlers", "level", "propagate")}
    remarks.handlers, remarks.propagate = [_Notes(said)], False
    remarks.setLevel(logging.INFO)
    try:
        yield
    finally:
        remarks.handlers, remarks.propagate = before["handlers"], before["propagate"]
        remarks.setLevel(before["level"])


class _Notes(logging.Handler):
    """Writes what is logged as notes, in words of the command line."""

    def __init__(self, said: Callable[[str], str]) -> None:
        super().__init__()
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        note(self.said(record.getMessage()))
