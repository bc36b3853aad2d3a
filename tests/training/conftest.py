"""A run that was interrupted."""

import signal
from pathlib import Path

import pytest
from runs import run, signalled

from equiprune.training.signals import StoppedError


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run of `RECIPE` stopped in the middle."""
    with pytest.raises(StoppedError):
        run(tmp_path / "run", progress=signalled(5, signal.SIGTERM))
    return tmp_path / "run"
