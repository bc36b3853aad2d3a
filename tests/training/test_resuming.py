"""A run that was stopped, killed or out of disk goes on and ends in the same bits."""

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from command_line import contents
from full_disk import files_of_at_most
from runs import RECIPE, SQUARES, assert_same_weights, plain, rows, run, signalled, weights_of
from torch import Tensor

import equiprune as ep
from equiprune.errors import CheckpointError, OutputError
from equiprune.training.recipe import Recipe
from equiprune.training.run_folder import RunFolder
from equiprune.training.signals import StoppedError


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ep.Potential]:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return folder, run(folder)


def assert_same_run(folder: Path, after: ep.Potential, whole: tuple[Path, ep.Potential]) -> None:
    """Weights, average, optimizer and curve, bit for bit; only the clock may differ."""
    assert_same_weights(after, whole[1])
    assert after.checkpoint.history == whole[1].checkpoint.history
    for weights in ("model/weights.safetensors", "last/weights.safetensors"):
        assert (folder / weights).read_bytes() == (whole[0] / weights).read_bytes()
    found, expected = (torch.load(path / "state.pt", weights_only=True) for path in (folder, whole[0]))
    for state in (found, expected):
        del state["state"]["seconds"], state["state"]["recorded"]
    assert_identical(found, expected)
    assert rows(folder) == rows(whole[0])
    assert {path.name for path in folder.iterdir()} == {"recipe.json", "state.pt", "curve.csv", "model", "last"}


def assert_identical(a: Any, b: Any, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_identical(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


@pytest.mark.slow
def test_a_line_for_every_step_and_validations_at_the_end_of_epochs(uninterrupted: tuple[Path, ep.Potential]) -> None:
    lines = rows(uninterrupted[0])
    assert [int(line["step"]) for line in lines] == list(range(1, 13))
    assert [int(line["epoch"]) for line in lines] == [0] * 4 + [1] * 4 + [2] * 4
    assert [i + 1 for i, line in enumerate(lines) if line["validation_forces"]] == [4, 8, 12]
    assert all(float(line[f"train_{name}"]) > 0 for line in lines for name in ("energy", "forces", "stress"))
    rates = [float(line["learning_rate"]) for line in lines]
    assert rates[:5] == pytest.approx([0.006, 0.012, 0.018, 0.024, 0.03])
    with (uninterrupted[0] / "curve.csv").open() as stream:
        seconds = [float(line["seconds"]) for line in csv.DictReader(stream)]
    assert seconds == sorted(seconds)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "number"), [(1, signal.SIGTERM), (3, signal.SIGINT), (6, signal.SIGTERM), (11, signal.SIGINT)]
)
def test_a_run_that_was_stopped_ends_in_the_same_bits(
    after: int, number: int, tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]
) -> None:
    """The step in progress is finished: in the middle of an epoch, and the last one of an epoch and of all."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(StoppedError, match=f"Interrupted after step {after + 1}; the same command goes on"):
        run(tmp_path / "run", progress=signalled(after, number))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert [int(row["step"]) for row in rows(tmp_path / "run")] == list(range(1, after + 2))
    assert not (tmp_path / "run" / "model").exists()
    done: list[int] = []
    assert_same_run(tmp_path / "run", run(tmp_path / "run", progress=done.append), uninterrupted)
    assert done == [after + 1, *[1] * (11 - after)]


@pytest.mark.slow
def test_a_run_that_is_stopped_after_every_step_ends_in_the_same_bits(
    tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]
) -> None:
    for _ in range(11):  # the first time two steps are done, then one each time, the last of them the twelfth
        with pytest.raises(StoppedError):
            run(tmp_path / "run", progress=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert_same_run(tmp_path / "run", run(tmp_path / "run"), uninterrupted)


def killed(folder: Path, after: int) -> None:
    """A run in a process of its own that is gone after so many steps, without a chance to tidy up."""
    done = subprocess.run(
        [sys.executable, runs.__file__, str(folder), str(after)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_a_run_that_was_killed_ends_in_the_same_bits(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    """Between two saves: what was recorded after the last one is done, and recorded, again."""
    killed(tmp_path / "run", 7)
    with RunFolder(tmp_path / "run").held(), pytest.raises(OutputError, match="Another process trains in"):
        run(tmp_path / "run")  # the folder is free again: another may hold it
    assert len(rows(tmp_path / "run")) == 7
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["state"]["step"] == 6
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy)
    with (copy / "curve.csv").open("a") as stream:
        stream.write("8,1,0.1")  # half a line
    before_first_save = tmp_path / "before"
    shutil.copytree(tmp_path / "run", before_first_save)
    (before_first_save / "state.pt").unlink()
    for folder in (tmp_path / "run", copy, before_first_save):
        assert_same_run(folder, run(folder), uninterrupted)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted[0], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert_same_weights(run(folder), uninterrupted[1])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_how_often_the_state_is_saved_changes_nothing(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    after = run(tmp_path / "run", replace(RECIPE, save_every=1))
    assert_same_run(tmp_path / "run", after, uninterrupted)


@pytest.mark.slow
def test_the_seed_decides_the_order(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    other = run(tmp_path / "run", replace(RECIPE, seed=1))
    assert not torch.equal(weights_of(other)["embedding_weight"], weights_of(uninterrupted[1])["embedding_weight"])


@pytest.mark.slow
def test_two_do_not_train_in_one_folder(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    """As when a pipeline was killed, its training was not, and the same command is repeated."""
    said = []

    def again(_: int) -> None:
        before = contents(tmp_path)
        with pytest.raises(OutputError, match="Another process trains in") as refusal:
            run(tmp_path / "run")
        said.append(str(refusal.value))
        assert contents(tmp_path) == before

    assert_same_run(tmp_path / "run", run(tmp_path / "run", progress=again), uninterrupted)
    assert len(said) == 12


@pytest.mark.slow
def test_a_thread_can_train(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    """Python lets only the main thread handle signals."""
    results: list[ep.Potential] = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path / "run")))
    thread.start()
    thread.join()
    assert_same_weights(results[0], uninterrupted[1])


@pytest.mark.slow
def test_patience_ends_a_run_and_going_on_does_not_begin_it_again(tmp_path: Path) -> None:
    """A learning rate that changes no number: every validation after the first is one without progress."""
    recipe = Recipe(SQUARES, plain(learning_rate=1e-30), epochs=9, batch_size=4, patience=1)
    after = run(tmp_path / "run", recipe)
    assert [row["epoch"] for row in rows(tmp_path / "run") if row["validation_forces"]] == ["0", "1", "2"]
    assert after.checkpoint.history[-1]["steps"] == 6
    assert_same_weights(run(tmp_path / "run", recipe), after)
    assert len(rows(tmp_path / "run")) == 6


@pytest.mark.slow
def test_with_progress_patience_does_not_run_out(tmp_path: Path) -> None:
    recipe = Recipe(SQUARES, plain(learning_rate=1e-4), epochs=4, batch_size=4, patience=0)
    run(tmp_path / "run", recipe)
    assert len(rows(tmp_path / "run")) == 8


# Folders that were empty, and disks that are full.


@pytest.mark.slow
def test_an_empty_folder_will_do(tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]) -> None:
    (tmp_path / "run").mkdir()
    assert_same_run(tmp_path / "run", run(tmp_path / "run"), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "file", "says"), [(100, "recipe.json", "Nothing was changed"), (3000, "state.pt", "Nothing was changed")]
)
def test_a_write_that_really_fails_is_a_message_and_the_run_goes_on_later(
    size: int, file: str, says: str, tmp_path: Path, uninterrupted: tuple[Path, ep.Potential]
) -> None:
    with files_of_at_most(size), pytest.raises(OutputError) as refusal:
        run(tmp_path / "run")
    for word in (str(tmp_path / "run" / file), "could not be written", "File too large", says):
        assert word in str(refusal.value)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    assert_same_run(tmp_path / "run", run(tmp_path / "run"), uninterrupted)


@pytest.mark.slow
def test_a_curve_that_cannot_be_written_is_a_message_and_the_run_goes_on_later(
    tmp_path: Path, uninterrupted: tuple[Path, ep.Potential], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fifth line fills the disk when half of it is written."""
    original, lines = csv.DictWriter.writerow, 0

    def full(writer: Any, row: dict[str, Any]) -> Any:
        nonlocal lines
        lines += 1
        if lines < 5:
            return original(writer, row)
        original(writer, dict.fromkeys(row, 7))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(csv.DictWriter, "writerow", full)
    with pytest.raises(OutputError, match="No space left") as refusal:
        run(tmp_path / "run")
    monkeypatch.undo()
    assert str(tmp_path / "run" / "curve.csv") in str(refusal.value)
    assert_same_run(tmp_path / "run", run(tmp_path / "run"), uninterrupted)


@pytest.mark.slow
def test_a_full_disk_keeps_the_state_there_was(
    stopped: Path, uninterrupted: tuple[Path, ep.Potential], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    before = (stopped / "state.pt").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="the disk is full"):
        run(stopped)
    monkeypatch.undo()
    assert (stopped / "state.pt").read_bytes() == before
    assert_same_run(stopped, run(stopped), uninterrupted)


@pytest.mark.parametrize("damage", [(b"0.", b"True"), (b"step", b"\xff"), (b"1,", b'"1,')])
def test_a_damaged_curve_is_said(damage: tuple[bytes, bytes], stopped: Path) -> None:
    curve = stopped / "curve.csv"
    curve.write_bytes(curve.read_bytes().replace(*damage))
    with pytest.raises(CheckpointError, match=r"curve.csv' is damaged .* Remove its folder to start anew"):
        list(RunFolder(stopped).rows())
