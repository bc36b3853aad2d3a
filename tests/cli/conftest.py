"""Fixtures of the tests of all commands."""

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from equiprune.cli import main
from equiprune.cli.pipeline import run as pipeline
from equiprune.cli.pipeline.run import Ended


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


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the stages of pipelines that ran, in this process."""
    lines: list[list[str]] = []

    def launch(words: Sequence[str], _: int) -> Ended:
        lines.append(list(words))
        with redirect_stdout(io.StringIO()) as said:
            code = main(list(words))
        return Ended(code, said.getvalue())

    monkeypatch.setattr(pipeline, "launch", launch)
    return lines
