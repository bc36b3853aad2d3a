"""Trials: each mutant in a child of a process that has imported and collected everything, by the tests that reach it.

The process itself runs no test, so that nothing a test leaves behind (fixtures, caches, threads) hides a mutant: one
child runs all tests to see which lines each of them reaches, and one child per mutant the quickest that reach its line.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from mutating.mutants import Functions, Mutant

Line = tuple[str, int]

KILLED, SURVIVED, IMPOSSIBLE = 1, 0, 3
"""Exit statuses of a child; one that ended by a signal was too slow, or crashed."""


@dataclass(frozen=True)
class Outcome:
    """A mutant and what became of it: killed, too slow, survived, unreached (by any test), or impossible (no Python).

    Attributes:
        mutant: what was changed.
        outcome: one of these words.
        tests: how many reach the line and were to be run.
        seconds: CPU time.
    """

    mutant: Mutant
    outcome: str
    tests: int
    seconds: float

    def row(self, root: Path) -> dict[str, Any]:
        """A JSON value, with the path below the repository's root."""
        of_trial = {"outcome": self.outcome, "tests": self.tests, "seconds": round(self.seconds, 2)}
        return self.mutant.row(root) | of_trial


class Trials:
    """A plugin of pytest that tries mutants instead of running the tests once.

    Attributes:
        outcomes: filled while pytest runs.
    """

    def __init__(self, mutants: list[Mutant], most_seconds: float, said: Callable[[str], None]) -> None:
        self.outcomes: list[Outcome] = []
        self._mutants, self._most, self._said = mutants, most_seconds, said
        self._files = {str(mutant.path) for mutant in mutants}
        self._bucket: set[Line] = set()
        self._of_fixtures: dict[str, set[Line]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.pluginmanager.unregister(name="terminalreporter")
        items = {item.nodeid: item for item in session.items}
        lines, seconds = self._reached(session)
        self._said(f"{len(lines)} tests in {sum(seconds.values()):.0f} s of CPU time; {len(self._mutants)} mutants")
        functions = Functions([Path(name) for name in self._files])
        quickest = sorted(lines, key=seconds.__getitem__)
        if _in_child(lambda: _verdict(session, [items[name] for name in quickest]), 3600) != SURVIVED:
            raise pytest.UsageError("the tests in another order, the quickest first, fail without any mutant")
        for number, mutant in enumerate(self._mutants):
            reaching = [name for name in quickest if (str(mutant.path), mutant.line) in lines[name]]
            names = self._first(sorted(reaching, key=lambda name: not name.startswith(mutant.tests)), seconds)
            work = partial(_of_mutant, session, mutant, functions, [items[name] for name in names])
            self._try(mutant, work, len(names))
            if number % 50 == 49:
                self._said(f"{number + 1} of {len(self._mutants)} tried")
        return True

    def _first(self, names: list[str], seconds: dict[str, float]) -> list[str]:
        """As many as there is time for, one at least."""
        spent = accumulate(seconds[name] for name in names)
        return [name for name, so_far in zip(names, spent, strict=True) if name == names[0] or so_far < self._most]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """Lines that a fixture reaches are reached by every test that uses it, also by those that find it made."""
        before, self._bucket = self._bucket, self._of_fixtures.setdefault(fixturedef.argname, set())
        try:
            return (yield)
        finally:
            self._bucket = before

    def _try(self, mutant: Mutant, work: Callable[[], int], tests: int) -> None:
        if not tests:
            self.outcomes.append(Outcome(mutant, "unreached", 0, 0.0))
            return
        started = _cpu_of_children()
        status = _in_child(work, 10 + 10 * self._most)
        outcome = {KILLED: "killed", SURVIVED: "survived", IMPOSSIBLE: "impossible"}.get(status, "too slow")
        self.outcomes.append(Outcome(mutant, outcome, tests, _cpu_of_children() - started))
        if outcome == "survived":
            where = f"{mutant.path.parent.name}/{mutant.path.name}:{mutant.line}"
            self._said(f"survived {tests} tests: {where} {mutant.function}: {mutant.before} -> {mutant.after}")

    def _reached(self, session: pytest.Session) -> tuple[dict[str, set[Line]], dict[str, float]]:
        """Lines that each test reaches, and its CPU time in s; tests that fail already are an error."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lines.json"
            status = _in_child(lambda: self._look(session, path), 3600)
            found = json.loads(path.read_text()) if path.exists() else {"failed": f"status {status}"}
        if found["failed"]:
            raise pytest.UsageError(f"fails without any mutant: {found['failed']}")
        lines = {name: {(path, line) for path, line in of_test} for name, of_test in found["lines"].items()}
        return lines, found["seconds"]

    def _look(self, session: pytest.Session, path: Path) -> int:
        of_tests: dict[str, set[Line]] = {}
        seconds: dict[str, float] = {}
        failed = []
        sys.settrace(self._enter)
        threading.settrace(self._enter)
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            self._bucket = of_tests[item.nodeid] = set()
            started, before = time.process_time(), session.testsfailed
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds[item.nodeid] = time.process_time() - started
            if session.testsfailed > before:
                failed.append(item.nodeid)
        sys.settrace(None)
        for item in session.items:
            for name in getattr(item, "fixturenames", ()):
                of_tests[item.nodeid] |= self._of_fixtures.get(name, set())
        lines = {name: sorted(of_test) for name, of_test in of_tests.items()}
        path.write_text(json.dumps({"lines": lines, "seconds": seconds, "failed": failed}))
        return 0

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable | None:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Callable:
        if event == "line":
            self._bucket.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


def _of_mutant(session: pytest.Session, mutant: Mutant, functions: Functions, items: Sequence[pytest.Item]) -> int:
    try:
        functions.exchange(mutant.code())
    except (KeyError, SyntaxError, ValueError):
        return IMPOSSIBLE
    return _verdict(session, items)


def _verdict(session: pytest.Session, items: Sequence[pytest.Item]) -> int:
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return KILLED
    return SURVIVED


def _in_child(work: Callable[[], int], seconds: float) -> int:
    """Exit status of work in a child process; negative where it ended by a signal, after so much CPU time at most."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = KILLED
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.alarm(int(20 * seconds))  # one that waits for ever takes no CPU time
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = work()
    except BaseException:  # whatever it was, the child must not go on as if it were its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
