"""What Windows lacks is needed by nothing: tried with it taken away."""

import subprocess
import sys
from pathlib import Path

import pytest
import without_unix

from equiprune.evaluation import memory


@pytest.mark.slow
def test_the_core_works_without_what_windows_lacks(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", without_unix.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line[:1].isalpha())
    assert said["stopped"].startswith("Interrupted after step ")
    assert said["handle"] == "None"
    assert said["held"].startswith("Another process trains in")
    assert said["held"].endswith("Wait for it, or end it first.")
    assert {name: said[name] for name in ("trained", "stage", "command")} == {
        "trained": "4",
        "stage": "0",
        "command": "0",
    }


def test_memory_that_cannot_be_measured_is_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(memory, "_RESET", Path("/no/such/file"))
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory.peak_memory(lambda: None, torch.device("cpu")) is None
    assert memory.added_memory(lambda: None, torch.device("cpu")) is None
