"""A script with which SLURM runs a command as a job array, whose tasks share the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from equiprune.cli.process import shown
from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Switch

DRY_RUN = Annotated[
    Switch,
    Parameter(
        group=panel("Where it runs"),
        help="do nothing, and print a script for SLURM that does it as a job array of --processes tasks.",
    ),
]
"""The flag of every command whose work several processes share."""


def job_array(words: Sequence[str], tasks: int, *, gpu: bool) -> str:
    """The script of a command, which loses the flags that made it.

    >>> print(job_array(["label", "7net-0", "a b.xyz", "-o", "c.xyz", "--processes", "8", "--dry-run"], 8, gpu=True))
    #!/bin/bash
    #SBATCH --job-name=equiprune-label
    #SBATCH --array=0-7
    #SBATCH --ntasks=1
    #SBATCH --gpus-per-task=1
    # Add what your cluster asks for: partition, account, time, memory, --cpus-per-task.
    # Tasks share a folder, and start and end when they like. Submit it again to do what lost tasks have left.
    equiprune label 7net-0 'a b.xyz' -o c.xyz
    """
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name=equiprune-{words[0]}",
        f"#SBATCH --array=0-{tasks - 1}",
        "#SBATCH --ntasks=1",
        *(["#SBATCH --gpus-per-task=1"] if gpu else []),
        "# Add what your cluster asks for: partition, account, time, memory, --cpus-per-task.",
        "# Tasks share a folder, and start and end when they like. Submit it again to do what lost tasks have left.",
        shown(_without_flags(words)),
    ]
    return "\n".join(lines)


def _without_flags(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    given = iter(words)
    for word in given:
        if word == "--processes":
            next(given, None)
        elif word != "--dry-run" and not word.startswith("--processes="):
            kept.append(word)
    return kept
