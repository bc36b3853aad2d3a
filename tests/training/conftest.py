"""A run that was interrupted."""

import shutil
import signal
from pathlib import Path

import pytest
from runs import run, signalled

from equiprune.training.signals import StoppedError


@pytest.fixture(scope="session")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that is copied."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(StoppedError):
        run(folder, progress=signalled(5, signal.SIGTERM))
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A run of `RECIPE` stopped in the middle, to go on with."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))
