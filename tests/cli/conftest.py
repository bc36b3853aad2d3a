"""Fixtures of the tests of all commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning curves are empty files, since drawing takes longer than the training; tests/training draws them."""
    monkeypatch.setattr("equiprune.training.observers.plot_curve", lambda rows, path: Path(path).touch())


@pytest.fixture
def small_batches() -> Iterator[None]:
    """Labels are written after every 32 atoms, so that few structures are several batches."""
    with pytest.MonkeyPatch.context() as patched:  # of its own: tests take their own patches back
        patched.setattr("equiprune.labelling.job.BATCH_ATOMS", 32)
        yield
