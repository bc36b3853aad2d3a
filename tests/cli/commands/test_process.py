"""Memory that runs out, Ctrl-C, exit codes and closed pipes end in a message or in silence, never in a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import Run

import equiprune as ep


def test_out_of_memory_is_a_message(refused: Run, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ep, "evaluate", exhausted)
    refused("evaluate", "toy", "--data", labelled, says=("Out of memory", "--batch-atoms; for train --batch-size"))


def test_ctrl_c_is_a_message_elsewhere_too(refused: Run, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ep, "evaluate", interrupted)
    refused("evaluate", "toy", "--data", labelled, says=("Interrupted", "Repeat the command"))


@pytest.mark.slow
def test_the_exit_code_reaches_the_shell() -> None:
    """From the script; other tests have it from ``python -m equiprune``."""
    script = str(Path(sys.executable).with_name("equiprune"))
    done = subprocess.run([script, "info", "tooy"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("equiprune: 'tooy'")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_reader_that_stops_listening_is_no_error() -> None:
    """And success reaches the shell."""
    script = f"{sys.executable} -m equiprune info toy --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
