"""Work that several processes share, and that goes on where it was interrupted.

The work is many independent items: structures to relax, batches to label. A folder holds their results as JSON lines,
in files of some items each, called pieces. A process claims a piece by locking it, does the items that it lacks one
after another, and writes each result as soon as it is there. Processes need nothing else of each other: they start and
end when they like, on any machine that sees the folder, and the kernel gives back the claims of one that was killed.
Results do not depend on which process computes them, nor on how many there are.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     work = SharedWork(Path(folder) / "squares", {"power": 2}, ["one", "two", "three"])
...     work.do(lambda item: (item + 1) ** 2, Share(1, 2))
...     list(work.results())
[1, 4, 9]
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import Any

from equiprune.errors import EquipruneError
from equiprune.files.atomic import KEPT, writing
from equiprune.files.recorded_folder import RecordedFolder
from equiprune.progress import Progress, silent

MOST_PIECES = 4096
"""Files in the folder at most, so that 1.5 million items need no more."""

_AGAIN = 1.0
"""Seconds after which a process that waits looks again."""


class Role(Enum):
    """Part that a process has in the end of the work."""

    WAITS = "waits for the others, does what those leave that were lost, and gives the result"
    HELPS = "leaves that to the one that waits"
    MAY_BE_LAST = "gives the result if it is the one that finishes the work; nobody waits"


@dataclass(frozen=True)
class Share:
    """One process among those that share work.

    Attributes:
        rank: its number, counted from 0.
        count: number of processes.
        role: its part in the end.
    """

    rank: int = 0
    count: int = 1
    role: Role = Role.WAITS


ALONE = Share()


@dataclass(frozen=True)
class Shared:
    """Long work that may be shared and goes on where it was interrupted.

    Attributes:
        folder: keeps what is finished, and is removed when the result is there.
        settings: everything that the result depends on besides how the work is divided.
        share: this process among the others.
    """

    folder: Path
    settings: Mapping[str, Any]
    share: Share = ALONE

    def work(self, batches: Sequence[range]) -> SharedWork:
        """The work of which each item is some consecutive structures."""
        names = [f"structures {batch.start} to {batch.stop - 1}" for batch in batches]
        return SharedWork(self.folder, self.settings, names, counts=list(map(len, batches)))


class UnfinishedError(EquipruneError):
    """Work of which another process gives the result."""


@dataclass(frozen=True)
class SharedWork:
    """A folder of results that several processes fill together.

    Attributes:
        folder: made where there is none; other work than this one is refused.
        settings: everything that the results depend on: JSON values, and frozen dataclasses of a `kind`.
        names: of the items, all different, in the order of the results.
        sizes: of the items; larger ones are done first. Their order, unless given.
        counts: structures in each item, for progress; one unless given.
    """

    folder: Path
    settings: Mapping[str, Any]
    names: Sequence[str]
    sizes: Sequence[int] = ()
    counts: Sequence[int] = ()

    def do(self, work: Callable[[int], Any], share: Share = ALONE, progress: Progress = silent) -> None:
        """Do every item that is neither done nor claimed by another process.

        Args:
            work: gives the result of an item, by its number, as a JSON value.
            share: this process among the others; each begins elsewhere.
            progress: called with the number of structures that are done, by whichever process.

        Raises:
            OutputError: the folder is of other work, is damaged or cannot be written.
        """
        self._recorded.begin()
        count = len(self._pieces)
        seen = [0] * count
        own = range(share.rank % count, count, share.count) if count else range(0)
        for number in chain(own, (other for other in range(count) if other not in own)):
            for done in self._do_piece(number, work):
                progress(self._structures(self._pieces[number][seen[number] : done]))
                seen[number] = done

    def finish(self, work: Callable[[int], Any], share: Share = ALONE, progress: Progress = silent) -> Iterator[Any]:
        """Like `do`, and give all results if that is the role of this process.

        Raises:
            UnfinishedError: another process gives them.
        """
        self.do(work, share, progress)
        while not self.complete and share.role is Role.WAITS:
            time.sleep(_AGAIN)
            self.do(work, share)
        if share.role is Role.HELPS or not self.complete or not (share.role is Role.WAITS or self._claim_result()):
            raise UnfinishedError(f"Other processes finish the work in '{self.folder}'.")
        return self.results()

    @property
    def complete(self) -> bool:
        """True if every item is done."""
        return all(self._path(number).exists() for number in range(len(self._pieces)))

    def results(self) -> Iterator[Any]:
        """The results in the order of the names; without sizes one piece is in memory at a time.

        Raises:
            OutputError: some are missing or damaged.
        """
        if not self.sizes:
            return chain.from_iterable(map(self._read, range(len(self._pieces))))
        found = dict(zip(chain(*self._pieces), chain(*map(self._read, range(len(self._pieces)))), strict=True))
        return (found[item] for item in range(len(self.names)))

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _claim_result(self) -> bool:
        """True if no other process gives the result; until this one has ended, none will."""
        from filelock import FileLock, Timeout  # only here is it needed

        lock = FileLock(self.folder / "result.lock", timeout=0)
        try:
            lock.acquire()
        except (Timeout, FileNotFoundError):  # the folder is gone once the result is there
            return False
        vars(self)["_result_lock"] = lock  # given back when nobody refers to it any more
        return True

    @cached_property
    def _pieces(self) -> list[list[int]]:
        """Items of each file."""
        items = sorted(range(len(self.names)), key=lambda i: -self.sizes[i]) if self.sizes else range(len(self.names))
        each = -(-len(items) // MOST_PIECES) or 1
        return [list(items[begin : begin + each]) for begin in range(0, len(items), each)]

    def _structures(self, items: Sequence[int]) -> int:
        return sum(self.counts[item] for item in items) if self.counts else len(items)

    def _path(self, number: int) -> Path:
        """The file of a piece that is complete; until then it has another suffix, or every process would read it."""
        return self.folder / f"piece-{number:04d}.jsonl"

    @cached_property
    def _recorded(self) -> RecordedFolder:
        names = hashlib.sha256("\n".join(self.names).encode()).hexdigest()
        settings = {**self.settings, "items": len(self.names), "names_sha256": names}
        return RecordedFolder(self.folder, settings, "work", "work on another model, other data or other settings")

    def _do_piece(self, number: int, work: Callable[[int], Any]) -> Iterator[int]:
        """Do what a piece lacks, unless another process has it; gives how many of its items are done each time."""
        items, path = self._pieces[number], self._path(number)
        if path.exists():
            yield len(items)
            return
        with _claimed(path) as file:
            if file is None:  # another process has it, or has just completed it
                if path.exists():
                    yield len(items)
                return
            done = _whole_lines(file)
            yield done
            for item in items[done:]:
                line = json.dumps(work(item)).encode() + b"\n"
                with writing(self.folder, KEPT):
                    while line:
                        line = line[file.write(line) :]
                done += 1
                yield done

    def _read(self, number: int) -> list[Any]:
        try:
            lines = self._path(number).read_bytes().splitlines()
            found = [json.loads(line) for line in lines]
        except (OSError, ValueError, RecursionError) as error:
            raise self._recorded.unusable(f"is damaged ({error})") from error
        if len(found) != len(self._pieces[number]):
            raise self._recorded.unusable("is not complete")
        return found


@contextmanager
def _claimed(path: Path) -> Iterator[FileIO | None]:
    """The file of a piece, opened, and complete afterwards; None if another process has it or has completed it."""
    from filelock import FileLock, Timeout  # only here is it needed

    lock = FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield None
        return
    except NotImplementedError:  # a file system without locks: work may be done twice, with the same results
        pass
    part = path.with_suffix(".part")
    try:
        if path.exists():
            yield None
            return
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
            yield file
        os.replace(part, path)
    finally:
        lock.release()


def _whole_lines(file: FileIO) -> int:
    """Number of whole lines; what follows them, of a process that was killed, is cut off."""
    text = file.read()
    file.seek(text.rfind(b"\n") + 1)
    file.truncate()
    return text.count(b"\n")
