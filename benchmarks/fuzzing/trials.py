"""Trials: mutated inputs in a process that may die, hang or fill the memory, and what came of each."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equiprune.errors import EquipruneError
from fuzzing.mutations import Files, mutated
from fuzzing.readers import Reader

SECONDS, MEMORY = 10.0, 2 << 30
"""Limits of one input: of CPU time, since the machine may be busy with other things, and of memory."""
_IDLE = 120.0
"""Seconds of wall time after which a process that says nothing waits for what never comes."""
_GUARD = 4 << 30
"""Bytes of addresses beyond those of the start, so that a reader that takes all memory harms nobody."""


@dataclass(frozen=True)
class Trial:
    """The end of one input.

    Attributes:
        index: of the input; with the name of the reader and the seed, it makes the input again.
        outcome: read, refused or defect.
        what: the defect in words, equal for those that are alike; of others the message.
        seconds: of CPU time.
    """

    index: int
    outcome: str
    what: str = ""
    seconds: float = 0.0


def seed_of(reader: Reader, box: Path) -> dict[str, bytes]:
    """The valid input, by path."""
    folder = box / "seed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reader.seed(folder / reader.path)
    taken = [path for path in (folder / reader.path, *(folder / reader.path).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in taken}


def read_here(reader: Reader, box: Path) -> None:
    """Read the seed in this process, so that its children have what that imports; whatever comes of it."""
    with contextlib.suppress(Exception):
        reader.read(box / "seed" / reader.path)
    shutil.rmtree(box / "seed")


def input_of(reader: Reader, files: Files, seed: int, index: int) -> Files:
    """The input of this number; the first is the seed itself."""
    return files if index == 0 else mutated(files, random.Random(f"{seed}/{reader.name}/{index}"))


def write(files: Files, folder: Path) -> None:
    """Put files into a folder that is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).is_dir():
            (folder / name).write_bytes(content)


def trials(reader: Reader, files: Files, box: Path, seed: int, count: int) -> Iterator[Trial]:
    """The inputs 0 to ``count``, each in a process that is begun again where the last one died."""
    done = 0
    while done < count:
        for trial in _in_a_process(reader, files, box, seed, range(done, count)):
            done = trial.index + 1
            yield trial


def _in_a_process(reader: Reader, files: Files, box: Path, seed: int, indices: range) -> Iterator[Trial]:
    """As many of the inputs as one process survives, and the one that it does not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _serve(reader, files, box, seed, indices, writing)
    os.close(writing)
    index = indices.start
    try:
        with os.fdopen(reading, "rb", buffering=0) as stream:
            for line in _lines(stream, child):
                value = json.loads(line)
                if "index" in value:
                    yield Trial(**value)
                    index = value["index"] + 1
    finally:
        _, status = os.waitpid(child, 0)
    if index < indices.stop and (ended := _end(status)):
        yield Trial(index, "defect", ended)


def _end(status: int) -> str:
    """Words for the end of a process before its time; empty where it wanted to end."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hung = f"longer than {SECONDS:.0f} s"
        return hung if number == signal.SIGPROF else f"killed by {signal.Signals(number).name}"
    return "" if os.WEXITSTATUS(status) in (0, 3) else f"exit with {os.WEXITSTATUS(status)}"


def _lines(stream: Any, child: int) -> Iterator[bytes]:
    """Lines that the process says; one that says nothing for too long is ended."""
    rest = b""
    while True:
        ready, _, _ = select.select([stream], [], [], _IDLE)
        if not ready:
            os.kill(child, signal.SIGPROF)
            continue
        some = stream.read(1 << 16)
        if not some:
            return
        *lines, rest = (rest + some).split(b"\n")
        yield from lines


def _serve(reader: Reader, files: Files, box: Path, seed: int, indices: range, writing: int) -> None:
    """The process: one input after another. Never returns."""
    code = 1
    try:
        _limit(box)
        with os.fdopen(writing, "w", buffering=1) as said:
            for index in indices:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                trial = _one(reader, files, box, seed, index)
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
                if grown > MEMORY:
                    trial = Trial(index, "defect", "more than 2 GB of memory", trial.seconds)
                print(json.dumps(vars(trial)), file=said)
                if trial.outcome == "defect":  # whatever it has done to the process is gone with it
                    os._exit(3)
        code = 0
    finally:
        os._exit(code)


def _limit(box: Path) -> None:
    """Limits of the process: memory, a folder of its own, and nothing on the terminal."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _GUARD,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    for name in ("here", "tmp"):
        (box / name).mkdir(exist_ok=True)
    os.chdir(box / "here")
    tempfile.tempdir = str(box / "tmp")


def _one(reader: Reader, files: Files, box: Path, seed: int, index: int) -> Trial:
    folder = box / "input"
    write(input_of(reader, files, seed, index), folder)
    before = _contents(box)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it catches
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    started = time.process_time()
    outcome, what = _read(reader, folder / reader.path)
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - started
    if outcome == "refused" and not reader.owns and (new := _contents(box) - before):
        outcome, what = "defect", f"refused, and written: {min(new)[0]}"
    if outcome == "refused" and ("\n" in what or len(what) > 2000):
        outcome, what = "defect", f"a message of several lines: {what[:300]!r}"
    if index == 0 and outcome == "refused":
        outcome, what = "defect", f"a valid input is not read: {what}"
    return Trial(index, outcome, what, round(seconds, 4))


def _read(reader: Reader, path: Path) -> tuple[str, str]:
    try:
        reader.read(path)
    except EquipruneError as error:
        return "refused", str(error)
    except BaseException as error:
        places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        ours = [place.partition("src/")[2] for place in places if "/src/equiprune/" in place]
        said = " ".join(str(error).split())[:200]
        return "defect", f"{type(error).__name__} at {(ours or places)[-1]}: {said}"
    return "read", ""


def _contents(box: Path) -> set[tuple[str, int, int]]:
    """Every file in the box, with its size and time."""
    found = set()
    for folder, _, names in os.walk(box):
        for name in names:
            state = os.lstat(os.path.join(folder, name))
            found.add((os.path.relpath(os.path.join(folder, name), box), state.st_size, state.st_mtime_ns))
    return found
