"""Remarks on the partial results that an interruption leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from equiprune.commands.request import remarks
from equiprune.errors import EquipruneError


@contextmanager
def resumable(partial: Path) -> Iterator[None]:
    """Say that an earlier run is gone on from, and on Ctrl-C or an error what this one leaves."""
    if partial.exists():
        remarks.info(f"Going on from {partial}.")
    try:
        yield
    except KeyboardInterrupt:
        kept = f"{partial} keeps what was finished" if partial.exists() else "nothing was finished yet"
        raise EquipruneError(f"Interrupted; {kept}. Repeat the command to go on.") from None
    except Exception as error:
        wrong = str(partial) in str(error) and not isinstance(error.__cause__, OSError)  # with what is there
        if partial.exists() and not wrong:
            remarks.info(f"{partial} keeps what was finished: the same command goes on; before another, remove it.")
        raise
