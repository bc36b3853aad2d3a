"""Freed memory that a process keeps: it is not asked of the system again."""

import json
import subprocess
import sys

import pytest
from command_line import Run

import equiprune as ep
from equiprune.cli import commands

SCRIPT = """
import json, resource, sys
import numpy as np
from equiprune.evaluation.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "kept" else None
np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**22)
print(json.dumps([kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""
"""Page faults of ten arrays of 32 MiB, one after another."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted on Linux")
def test_a_process_gets_its_own_memory_again() -> None:
    def said(how: str) -> list[int]:
        return json.loads(subprocess.check_output([sys.executable, "-c", SCRIPT, how], text=True))

    (kept, few), (_, many) = said("kept"), said("given back")
    if not kept:
        pytest.skip("this system's C library has no such choice")
    assert few < many / 10


def test_a_system_without_the_choice_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not ep.keep_freed_memory()


def test_commands_keep_it_but_for_those_that_measure(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their numbers are those of any program."""
    calls: list[None] = []
    monkeypatch.setattr(commands, "keep_freed_memory", lambda: calls.append(None))
    assert cli("info", "toy").code == 0
    assert len(calls) == 1
    assert cli("benchmark", "toy", "--repeats", 1).code == 0
    assert len(calls) == 1
