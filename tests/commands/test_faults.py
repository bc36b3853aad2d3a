"""Faults around a command: a folder that takes no files, an input that vanishes, a clock that jumps."""

import os
import time
from itertools import cycle
from pathlib import Path

import ase.io
import pytest
from command_line import Run, contents

import equiprune as ep
from equiprune.structures.probes import probe_structures


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Labelled structures."""
    path, bare = tmp_path / "data.extxyz", list(probe_structures([1, 6, 8, 14]).values())
    labelled = ep.load("toy").calculator()
    for atoms in bare:
        atoms.calc = labelled
        atoms.get_potential_energy()
        atoms.get_forces()
        ase.io.write(path, atoms, format="extxyz", append=True)
    return path


def words(name: str, data: Path, output: Path) -> list[object]:
    more = ["--epochs", 1, "--batch-size", 2, "--data"] if name == "train" else []
    return [name, "toy", *more, data, "-o", output]


@pytest.mark.parametrize("name", ["label", "calibrate", "train"])
def test_a_folder_that_takes_no_files_is_refused_before_any_work(name: str, refused: Run, data: Path) -> None:
    refused(*words(name, data, Path("/proc/out.extxyz")), says=("/proc", "cannot be"))


@pytest.mark.parametrize("name", ["label", "calibrate", "train"])
def test_an_input_that_vanished_is_named_and_what_was_finished_stays(
    name: str, refused: Run, tmp_path: Path, data: Path
) -> None:
    output = tmp_path / "out.extxyz"
    (tmp_path / "out.extxyz.partial").mkdir()
    (tmp_path / "out.extxyz.partial" / "finished").write_text("precious")
    before = contents(tmp_path / "out.extxyz.partial")
    data.unlink()
    refused(*words(name, data, output), says=("data.extxyz", "no such file"))
    assert contents(tmp_path / "out.extxyz.partial") == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["calibrate", "train"])
def test_a_clock_that_jumps_changes_nothing(
    name: str, cli: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equiprune.training.observers.plot_curve", lambda rows, path: Path(path).touch())
    assert cli(*words(name, data, tmp_path / "steady")).code == 0
    jumps = cycle([0.0, 4e9, 1e3, -1e6])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    os.utime(data, (4e9, 4e9))
    assert cli(*words(name, data, tmp_path / "jumping")).code == 0
    result = "model/weights.safetensors" if name == "train" else ""
    steady, jumping = ((tmp_path / folder / result).read_bytes() for folder in ("steady", "jumping"))
    assert steady == jumping
