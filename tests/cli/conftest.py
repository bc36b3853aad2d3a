"""Fixtures of the tests of all commands."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning curves are empty files, since drawing takes longer than the training; tests/training draws them."""
    monkeypatch.setattr("equiprune.training.observers.plot_curve", lambda rows, path: Path(path).touch())
