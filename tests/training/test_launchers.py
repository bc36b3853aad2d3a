"""A launcher starts the processes itself: a wrong number of them is refused before any work."""

from pathlib import Path

import pytest
from command_line import Run

from equiprune.commands.options.processes import ProcessOptions
from equiprune.errors import TargetError

STEP = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "8"}


@pytest.mark.parametrize(
    "environment", [{"WORLD_SIZE": "8"}, STEP, STEP | {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "8"}]
)
def test_a_launcher_that_started_another_number_is_refused(environment: dict[str, str]) -> None:
    for flags in (ProcessOptions(), ProcessOptions(devices=4), ProcessOptions(devices=8, nodes=2)):
        with pytest.raises(TargetError, match=r"has started 8 processes.*`devices`.*`nodes`.*together make 8"):
            flags.check_machine(environment)
    ProcessOptions(devices=4, nodes=2).check_machine(environment)
    ProcessOptions(devices=8).check_machine(environment)


@pytest.mark.parametrize("environment", [{}, {"SLURM_NTASKS": "8"}, STEP | {"SLURM_STEP_NUM_TASKS": "1"}])
def test_without_a_launcher_any_number_is_started(environment: dict[str, str]) -> None:
    """The script of a SLURM job knows how many tasks it may start, and is one process itself."""
    ProcessOptions().check_machine(environment)
    ProcessOptions(devices=4).check_machine(environment)


def test_torchrun_without_devices_is_refused_before_any_work(
    refused: Run, xyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused("train", "toy", "--data", xyz, "-o", tmp_path / "run", says=("started 2 processes", "--devices", "--nodes"))
