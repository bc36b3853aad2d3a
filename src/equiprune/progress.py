"""Progress of long work: callbacks that count, tasks that say what is counted, and displays of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Progress = Callable[[int], None]
"""Called with the number of structures finished since the last call."""

_CHECKED = 10_000
"""Structures looked at from one line to the next."""


def silent(_: int) -> None:
    """A progress display that shows nothing."""


@dataclass(frozen=True)
class Task:
    """Long work: what it is called, its steps if they are known, and after how many of them a line is due."""

    label: str
    total: int | None
    every: int = 50


def checking(structures: int) -> Task:
    """Looking at so many structures, which takes a millisecond for each."""
    return Task("check", structures, _CHECKED)


Display = Callable[..., AbstractContextManager[Sequence[Progress]]]
"""Called with tasks; a context that gives a callback for each."""


@contextmanager
def unseen(*tasks: Task) -> Iterator[Sequence[Progress]]:
    """A display of tasks that shows nothing."""
    yield [silent for _ in tasks]
