"""Commands whose work several processes share: the same bytes as of one process, whoever does what and who is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import bare, write

import equiprune as ep
from equiprune.commands import Calibrate, CopyOptions, DynamicsOptions, Evaluate, Label, ProbeOptions, ScreeningOptions
from equiprune.commands.options.sharing import Launched, SharingOptions, device_of
from equiprune.commands.sharing import SharedRequest
from equiprune.errors import OutputError, StructureError, TargetError
from equiprune.files.shared_work import Role, Share, UnfinishedError
from equiprune.labelling import job
from equiprune.labelling.shared_job import _write

STUDENT = {
    "copy": CopyOptions(copies=1),
    "motion": DynamicsOptions(frames=2, interval=3, temperature=20000, timestep=4),
    "kept": ScreeningOptions(largest_force=0.3),
    "hessian": ProbeOptions(hessian_rows=1),
}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process alone."""
    monkeypatch.setattr(job, "BATCH_ATOMS", 5)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data.xyz", bare(6))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    ep.save(ep.load("toy"), tmp_path / "student")
    return tmp_path / "student"


def label(data: Path, output: Path, **more: Any) -> Label:
    return Label("toy", data, output=output, seed=3, **more)


def part(rank: int, count: int, role: Role = Role.HELPS) -> Launched:
    return Launched(Share(rank, count, role))


def together(request: SharedRequest[Any], count: int) -> Any:
    """The result of several processes one after another: the last finds everything done."""
    for rank in range(1, count):
        with pytest.raises(UnfinishedError):
            request.take_part(part(rank, count))
    return request.take_part(part(0, count, Role.WAITS))


def same(*paths: Path) -> bool:
    return len({path.read_bytes() for path in paths}) == 1


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("student", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["teacher", "student"])
def test_labels_have_the_same_bytes(student: bool, tmp_path: Path, data: Path, model: Path) -> None:
    more: dict[str, Any] = STUDENT | {"student": str(model)} if student else {"copy": CopyOptions(copies=1)}
    alone = label(data, tmp_path / "alone.xyz", **more).run()
    for count in (2, 5):
        output = tmp_path / f"{count}.xyz"
        found = together(label(data, output, **more), count)
        assert same(tmp_path / "alone.xyz", output)
        assert replace(found, path=alone.path) == alone
    assert alone.structures > 3
    assert not list(tmp_path.glob("*.partial"))


def test_scores_have_the_same_bytes(tmp_path: Path, data: Path) -> None:
    def request(name: str) -> Calibrate:
        return Calibrate("toy", data, output=tmp_path / name, batch_atoms=4)

    request("alone.json").run()
    together(request("together.json"), 3)
    assert same(tmp_path / "alone.json", tmp_path / "together.json")


def test_errors_are_the_same_numbers(tmp_path: Path, data: Path) -> None:
    label(data, tmp_path / "labelled.xyz").run()
    request = Evaluate(["toy"], data=tmp_path / "labelled.xyz", batch_atoms=4, dtype="float64")
    found = together(replace(request, work=tmp_path / "work"), 3)
    assert found.to_json() == request.run().to_json()
    assert not (tmp_path / "work").exists()


def test_one_that_does_not_wait_says_who_does(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    request = label(data, tmp_path / "out.xyz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("equiprune.labelling.shared_job.labelled_group", interrupted)
        with pytest.raises(ep.EquipruneError, match="Interrupted"):
            request.take_part(part(0, 2))
    monkeypatch.setattr("equiprune.files.shared_work._claimed", _claimed_by_another)
    with pytest.raises(UnfinishedError, match="Other processes finish"):
        request.take_part(part(1, 2))
    assert not (tmp_path / "out.xyz").exists()


def _claimed_by_another(_: Path) -> Any:
    from contextlib import nullcontext

    return nullcontext(None)


def test_one_that_comes_late_has_nothing_to_do(tmp_path: Path, data: Path) -> None:
    for request in (label(data, tmp_path / "out.xyz"), Calibrate("toy", data, output=tmp_path / "out.json")):
        together(request, 2)
        with pytest.raises(UnfinishedError, match="is there already"):
            request.take_part(part(1, 2))
        with pytest.raises(OutputError, match="never overwritten"):
            request.take_part(part(0, 2, Role.WAITS))


@pytest.mark.parametrize("change", [{"seed": 4}, {"copy": CopyOptions(copies=2)}, {"limit": 5}])
def test_other_settings_do_not_go_on(change: dict[str, Any], tmp_path: Path, data: Path) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    request = label(data, tmp_path / "out.xyz", copy=CopyOptions(copies=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("equiprune.labelling.shared_job.labelled_group", stop)
        with pytest.raises(ep.EquipruneError, match="Interrupted"):
            request.take_part(part(0, 2))
    with pytest.raises(OutputError, match=r"out\.xyz\.partial' is work on another model, other data or other settings"):
        replace(request, **change).take_part(part(0, 2))


def test_of_a_job_array_the_last_task_gives_the_result_once(tmp_path: Path, data: Path) -> None:
    label(data, tmp_path / "alone.xyz").run()
    request = label(data, tmp_path / "out.xyz")
    first, second = (part(rank, 2, Role.MAY_BE_LAST) for rank in range(2))

    def meanwhile(*_: Any) -> None:
        with pytest.raises(UnfinishedError, match="Other processes finish"):
            request.take_part(second)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("equiprune.labelling.shared_job._write", lambda *given: (meanwhile(), _write(*given)))
        assert request.take_part(first).structures == 6
    assert same(tmp_path / "alone.xyz", tmp_path / "out.xyz")
    with pytest.raises(UnfinishedError, match="is there already"):
        request.take_part(second)


def test_where_nothing_is_left_nothing_is_written(tmp_path: Path, data: Path) -> None:
    request = label(data, tmp_path / "out.xyz", kept=ScreeningOptions(largest_force=1e-9))
    with pytest.raises(StructureError, match="Not one structure is left"):
        request.take_part(part(0, 2, Role.WAITS))
    assert [path.name for path in tmp_path.iterdir()] == ["data.xyz"]


# Processes.

PROGRAM = "import sys; from equiprune.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(*words: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, *map(str, words)]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=os.environ | environment, **pipes)

    return start


@pytest.mark.slow
def test_a_command_that_was_killed_goes_on_with_another_number_of_processes(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    """Killed as soon as another process than the first one has done something."""
    data = write(tmp_path / "many.xyz", bare(700))
    process = started("label", "toy", data, "-o", "out.xyz", "--seed", 3, "--processes", 2)
    first_of_the_second = tmp_path / "out.xyz.partial" / "piece-0001.jsonl"
    while not first_of_the_second.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    label(data, tmp_path / "alone.xyz").run()
    found = label(data, tmp_path / "out.xyz", sharing=SharingOptions(processes=3)).run()
    assert found is not None
    assert found.structures == 700
    assert same(tmp_path / "out.xyz", tmp_path / "alone.xyz")


@pytest.mark.slow
def test_processes_of_a_launcher_share(
    tmp_path: Path, data: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    words = ("label", "toy", data, "-o", "out.xyz", "--seed", 3, "--json")
    both = [started(*words, RANK=str(i), WORLD_SIZE="2", LOCAL_RANK=str(i)) for i in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert ('"structures": 6' in said[0][0], said[1][0]) == (True, "")
    label(data, tmp_path / "alone.xyz").run()
    assert same(tmp_path / "alone.xyz", tmp_path / "out.xyz")


# Launchers.


def by(**environment: str) -> Share | None:
    found = Launched.by(environment)
    return found.share if found else None


def test_launchers_say_who_a_process_is() -> None:
    assert by() is None
    assert by(RANK="0", WORLD_SIZE="1") is None
    assert by(RANK="0", WORLD_SIZE="3") == Share(0, 3)
    assert by(RANK="2", WORLD_SIZE="3") == Share(2, 3, Role.HELPS)
    assert by(SLURM_PROCID="0", SLURM_NTASKS="4") is None  # the script of a job
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    assert by(SLURM_PROCID="0", **step) == Share(0, 4)
    assert by(SLURM_PROCID="3", **step) == Share(3, 4, Role.HELPS)
    array = {"SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "5", "SLURM_ARRAY_TASK_STEP": "2"}
    assert by(SLURM_ARRAY_TASK_ID="10", **array) == Share(0, 5, Role.MAY_BE_LAST)
    assert by(SLURM_ARRAY_TASK_ID="18", **array) == Share(4, 5, Role.MAY_BE_LAST)
    assert by(SLURM_ARRAY_TASK_ID="18", SLURM_PROCID="3", **array, **step) == Share(19, 20, Role.MAY_BE_LAST)


def test_processes_beside_a_launcher_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TargetError, match=r"process 1 of 2\. Leave out `processes`"):
        label(data, tmp_path / "out.xyz", sharing=SharingOptions(processes=2)).run()
    with pytest.raises(TargetError, match="need `work`, a folder that all of them see"):
        Evaluate(["toy"], data=data).run()


def test_processes_on_a_machine_take_its_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [device_of("cuda", i) for i in (0, 3, 5)] == ["cuda:0", "cuda:3", "cuda:1"]
    assert (device_of("cpu", 3), device_of("cuda:2", 3)) == ("cpu", "cuda:2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert device_of("cuda", 3) == "cuda"
