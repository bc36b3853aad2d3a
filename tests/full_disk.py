"""A disk that fills up: a limit on each file, and a small file system of its own."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to write more into any file: a real failure in the middle of writing, for root too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@dataclass(frozen=True)
class SmallDisk:
    """A file system of some megabytes, and a file on it that takes what shall not be free."""

    path: Path

    def leave(self, size: int) -> None:
        """Let so many bytes be free, rounded up to a block."""
        self.free_all()
        there = os.statvfs(self.path)
        blocks = there.f_bavail - -(-size // there.f_frsize)
        assert blocks > 0, "the disk is smaller than what shall be free"
        self._taken.write_bytes(bytes(blocks * there.f_frsize))

    def free_all(self) -> None:
        """Let everything be free that files do not need."""
        self._taken.unlink(missing_ok=True)

    @property
    def _taken(self) -> Path:
        return self.path / ".taken"


@contextmanager
def small_disk(folder: Path, megabytes: int = 8) -> Iterator[SmallDisk]:
    """A new tmpfs on a folder; where nobody may mount one the test is skipped."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "equiprune-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        refusal = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        refusal = str(error)
    if refusal:
        pytest.skip(f"a small disk is a tmpfs, which may not be mounted here ({refusal})")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
