"""A command whose work is shared as a script for SLURM, which the same command line makes and nothing else."""

import subprocess
from pathlib import Path

import pytest
from command_line import Run, contents

from equiprune.commands.options.sharing import Launched
from equiprune.files.shared_work import Role, Share


def test_a_dry_run_prints_a_script_and_does_nothing(cli: Run, labelled: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    ran = cli("label", "toy", labelled, "-o", tmp_path / "out.xyz", "--processes", 100, "--copies", 1, "--dry-run")
    assert ran.code == 0
    script = ran.out
    assert "#SBATCH --array=0-99" in script
    assert "--gpus" not in script
    assert script.splitlines()[-1] == f"equiprune label toy {labelled} -o {tmp_path}/out.xyz --copies 1"
    assert contents(tmp_path) == before


def test_the_script_is_one_that_bash_reads(cli: Run, labelled: Path, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(cli("calibrate", "toy", labelled, "-o", tmp_path / "a b.json", "--processes=8", "--dry-run").out)
    subprocess.run(["bash", "-n", script], check=True)
    assert script.read_text().splitlines()[-1].endswith("'a b.json'") or "a b.json'" in script.read_text()
    assert "--processes" not in script.read_text()


def test_what_cannot_be_is_refused_before_there_is_a_script(refused: Run, labelled: Path, tmp_path: Path) -> None:
    words = ["label", "toy", labelled, "-o", tmp_path / "out.json", "--processes", 4, "--dry-run"]
    refused(*words, says=("out.json", ".extxyz"))


@pytest.mark.parametrize("task", range(3))
def test_each_task_of_the_script_is_one_of_the_processes(task: int) -> None:
    given = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "3"}
    assert Launched.by(given) == Launched(Share(task, 3, Role.MAY_BE_LAST))
