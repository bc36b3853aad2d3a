"""Loading: workers and the neighbour cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, NotNegative
from equiprune.commands.stages import Mark


@Parameter(name="*", group=panel("Loading"))
@dataclass(frozen=True)
class LoadingOptions(Complete):
    """Workers and the neighbour cache; results are the same bits whatever is chosen.

    Attributes:
        workers: processes that read structures and build graphs; 0 leaves it to the one that trains.
        cache: a folder that keeps neighbour lists, for this run and others.
    """

    workers: Annotated[NotNegative, Mark.UNRECORDED] = 0
    cache: Annotated[Path | None, Mark.UNRECORDED] = None


IN_PROCESS = LoadingOptions()
"""Nothing said."""
