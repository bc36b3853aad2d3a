"""Flags of loading: workers and the neighbour cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from equiprune.cli.flags.panels import panel
from equiprune.cli.flags.values import NotNegative


@Parameter(name="*", group=panel("Loading"))
@dataclass(frozen=True)
class LoadingFlags:
    """Workers and the neighbour cache; results are the same bits whatever is chosen.

    Attributes:
        workers: processes that read structures and build graphs; 0 leaves it to the one that trains.
        cache: a folder that keeps neighbour lists, for this run and others.
    """

    workers: NotNegative = 0
    cache: Path | None = None


IN_PROCESS = LoadingFlags()
"""No flag given."""
