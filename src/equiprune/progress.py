"""Progress of long work: a callback, and one that does nothing."""

from collections.abc import Callable

Progress = Callable[[int], None]
"""Called with the number of structures finished since the last call."""


def silent(_: int) -> None:
    """A progress display that shows nothing."""
