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
"""Columns of a table that goes to a file or a pipe, or as many as its longest words need."""
_WIDEST = 100_000


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
    """Write a table to stdout; the first row is the heading. Where a terminal is too narrow for it, write a list."""
    table = Table(title=title or None, title_justify="left")
    for column in zip(*rows, strict=True):
        words = [word for cell in column for word in cell.split()]
        table.add_column(column[0], min_width=max(map(len, words), default=0))  # or the widest columns lose letters
    for row in rows[1:]:
        table.add_row(*row)
    on_terminal = sys.stdout.isatty()
    console = Console(width=None if on_terminal else _WIDTH, markup=False, highlight=False)
    least = console.measure(table, options=console.options.update(max_width=_WIDEST)).minimum
    if on_terminal and least > console.width:
        show(_listed(title, rows))
        return
    console.width = max(console.width, least)
    with console.capture() as captured:
        console.print(table)
    show("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _listed(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Each row by itself, its first cell above the others and their headings; what is empty is left out.

    >>> print(_listed("Errors", [["model", "energy", "forces"], ["parent", "12", ""], ["child", "14", "80"]]))
    Errors
    model: parent
      energy: 12
    model: child
      energy: 14
      forces: 80
    """
    lines = [title] if title else []
    for row in rows[1:]:
        cells = [f"{name}: {cell}" if name else cell for name, cell in zip(rows[0], row, strict=True) if cell]
        lines += [cell if i == 0 else f"  {cell}" for i, cell in enumerate(cells)]
    return "\n".join(lines)


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
