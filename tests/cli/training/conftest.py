"""Files that the commands are tried on, and Ctrl-C in the middle of one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import bare, write

import equiprune as ep
from equiprune.cli import display
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.label import label
from equiprune.progress import Progress, Task, silent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six structures without labels."""
    return write(tmp_path / "data.xyz", bare(6))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Eight structures labelled by the toy model."""
    return write(tmp_path / "labelled.extxyz", list(label(ep.load("toy"), augmented(bare(), Augmentation(copies=1)))))


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Four others."""
    return write(tmp_path / "held_out.extxyz", list(label(ep.load("toy"), bare(8)[4:])))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A pruned toy model, in float32 as models come."""
    toy = ep.load("toy")
    plan = ep.allocate(toy, [ep.Channels(4)], ep.data_free_scores(toy, ep.Random(1)))
    ep.save(ep.prune(toy, plan), tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Press Ctrl-C once a command has done so many steps."""

    def after(steps: int) -> None:
        def lines(task: Task) -> Progress:
            done = 0

            def step(count: int) -> None:
                nonlocal done
                done += count
                if done - count < steps <= done:
                    os.kill(os.getpid(), signal.SIGINT)

            return silent if task.label == "check" else step

        monkeypatch.setattr(display, "_lines", lines)

    return after
