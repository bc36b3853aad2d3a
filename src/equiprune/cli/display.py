"""Output for people and programs: results on stdout, progress and notes on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from equiprune.errors import OutputError
from equiprune.files.atomic import as_json
from equiprune.progress import Task

_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""


def show(text: str) -> None:
    """Write a result to stdout; a reader that stops listening (``| head``) is no error.

    Raises:
        OutputError: stdout cannot be written, for example because the disk is full.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails again when it exits
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"The result could not be written to standard output ({error.strerror}).") from error


def show_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    show(as_json(value))


def show_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout; the first row is the heading."""
    table = Table(*rows[0], title=title or None, title_justify="left")
    for row in rows[1:]:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    show("\n".join(line.rstrip() for line in captured.get().splitlines()))


def note(text: str) -> None:
    """Write a remark to stderr."""
    print(text, file=sys.stderr)


def plain(value: Any) -> str:
    """A value as words.

    >>> plain({"all": 1171144, "heads": []})
    'all 1,171,144, heads none'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value) or "none"


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Progress of one task."""
    with progresses(Task(label, total)) as [step]:
        yield step


@contextmanager
def progresses(*tasks: Task) -> Iterator[list[Callable[[int], None]]]:
    """Progress of tasks: a bar for each on a terminal, until it is full; plain lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield [_lines(task) for task in tasks]
        return
    times = (TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times)
    with Progress(*columns, console=console, transient=True) as bars:
        yield [_bar(bars, task) for task in tasks]


def _bar(bars: Progress, task: Task) -> Callable[[int], None]:
    number, done = bars.add_task(task.label, total=task.total), 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        bars.update(number, completed=done, visible=task.total is None or done < task.total)

    return step


def _lines(task: Task) -> Callable[[int], None]:
    done, first, began = 0, 0, 0.0

    def step(count: int) -> None:
        nonlocal done, first, began
        if not done:  # what an interrupted attempt has finished took no time now
            first, began = count, time.monotonic()
        if done // task.every != (done + count) // task.every:
            known = task.total is not None and done + count <= task.total  # some work turns out to be more
            of = f" of {task.total}{_left(task.total or 0, done + count, first, began)}" if known else ""
            note(f"{task.label}: {done + count}{of}")
        done += count

    return step


def _left(total: int, done: int, first: int, began: float) -> str:
    """Minutes left by the pace since the first step, where there are any."""
    if done == first:
        return ""
    minutes = round((time.monotonic() - began) / (done - first) * (total - done) / 60)
    return f", about {minutes} min left" if minutes >= 1 else ""
