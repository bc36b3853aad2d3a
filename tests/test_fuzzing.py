"""Broken inputs are read or refused by one message: a few of each reader; `benchmarks/fuzz.py` makes thousands."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import equiprune as ep
from equiprune.errors import StructureError

ROOT = Path(__file__).parents[1]
SHORT = (
    *(f"structures: {name}" for name in ("extxyz", "extxyz.gz", "MatPES", "rMD17", "DeePMD npy")),
    *("model: native", "recipe", "plan", "references"),
)


@pytest.fixture(scope="module")
def fuzzing() -> ModuleType:
    """The package of the benchmark, with its parts."""
    pytest.importorskip("resource")  # limits of processes, which Windows has not
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import fuzzing.readers
    import fuzzing.trials

    return fuzzing


def tried(fuzzing: ModuleType, reader: object, box: Path, count: int, seed: int = 1) -> list:
    """The ends of so many inputs of a reader."""
    fuzzing.seeds.extxyz(box / "data.extxyz")
    files = fuzzing.trials.seed_of(reader, box)
    fuzzing.trials.read_here(reader, box)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that overflow, and of Python 3.12 about threads: torch has one
        return list(fuzzing.trials.trials(reader, files, box, seed, count))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_broken_inputs_are_read_or_refused(name: str, fuzzing: ModuleType, tmp_path: Path) -> None:
    [reader] = [reader for reader in fuzzing.readers.READERS if reader.name == name]
    ends = tried(fuzzing, reader, tmp_path, 20)
    assert [end.index for end in ends] == list(range(20))
    assert [f"{end.index}: {end.what}" for end in ends if end.outcome == "defect"] == []
    assert {"read", "refused"} == {end.outcome for end in ends}


def raises(_: Path) -> None:
    raise ValueError("not a sentence")


def dies(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # an abort would be told at length


def hangs(_: Path) -> None:
    while True:
        try:
            time.perf_counter()
        except BaseException:  # a reader that catches whatever stops it
            continue


def fills(_: Path) -> None:
    np.ones(9 << 27)  # 9 GB


def grows(_: Path) -> None:
    np.ones(5 << 20)  # 40 MB


def writes(path: Path) -> None:
    path.with_name("left").touch()
    raise StructureError("refused, and not without a trace")


class LongError(StructureError):
    def __str__(self) -> str:
        return "one line\nand another"


def rambles(_: Path) -> None:
    raise LongError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "what"),
    [
        (raises, "ValueError"),
        (dies, "killed by SIGKILL"),
        (hangs, "longer than"),
        (fills, "MemoryError"),
        (grows, "of memory"),
        (writes, "refused, and written: input/left"),
        (rambles, "a message of several lines"),
        (lambda path: ep.read_structures(path.with_name("other")).__next__(), "a valid input is not read"),
    ],
)
def test_each_defect_is_found(
    read: Callable[[Path], None], what: str, fuzzing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing.trials, "SECONDS", 0.3)
    monkeypatch.setattr(fuzzing.trials, "MEMORY", 20 << 20)
    monkeypatch.setattr(fuzzing.trials, "read_here", lambda *_: None)
    reader = fuzzing.readers.Reader("a reader", "a.extxyz", fuzzing.seeds.extxyz, read)
    ends = tried(fuzzing, reader, tmp_path, 2)
    assert [end.outcome for end in ends][:1] == ["defect"]
    assert what in ends[0].what
    assert len(ends) == 2  # it goes on


def test_an_input_is_made_again_from_its_number(fuzzing: ModuleType, tmp_path: Path) -> None:
    for reader in fuzzing.readers.READERS:
        if reader.name in SHORT:
            files = fuzzing.trials.seed_of(reader, tmp_path)
            once, again = (fuzzing.trials.input_of(reader, files, 3, 7) for _ in range(2))
            assert once == again
