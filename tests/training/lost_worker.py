"""``python lost_worker.py DATA FOLDER``: train on the command line, and lose the worker after the first step."""

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from equiprune import cli
from equiprune.cli import commands
from equiprune.progress import Progress, Task


@contextmanager
def fatal(*tasks: Task) -> Iterator[list[Progress]]:
    def step(_: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    yield [step for _ in tasks]


if __name__ == "__main__":
    commands.progresses = fatal
    words = ["train", "toy", "--data", sys.argv[1], "-o", sys.argv[2], "--workers", "1", "--batch-size", "1"]
    sys.exit(cli.main([*words, "--epochs", "50"]))
