"""``python lost_worker.py DATA FOLDER``: train on the command line, and lose the worker after the first step."""

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from equiprune import cli
from equiprune.cli.commands import training
from equiprune.progress import Progress


@contextmanager
def fatal(_: str, total: int | None) -> Iterator[Progress]:
    def step(_: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    yield step


if __name__ == "__main__":
    training.progress = fatal
    words = ["train", "toy", "--data", sys.argv[1], "-o", sys.argv[2], "--workers", "1", "--batch-size", "1"]
    sys.exit(cli.main([*words, "--epochs", "50"]))
