"""Ctrl-C, SIGTERM and a closed terminal as a wish: the step in progress is finished, and its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

from equiprune.errors import EquipruneError

ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if name in vars(signal)  # Windows has no SIGHUP
)
"""Ctrl-C and the end of a terminal reach every process of it, SIGTERM often every process of a job."""


class StoppedError(EquipruneError):
    """Training was asked to stop; the state is saved, and the same command goes on."""


@contextmanager
def graceful_shutdown(stop: Callable[[], None]) -> Iterator[None]:
    """Signals to end call ``stop`` meanwhile, and do nothing else; one that is ignored (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():  # Python lets no other set handlers
        yield
        return
    with handling(lambda *_: stop()):
        yield


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals to end go to a handler meanwhile, except those that are ignored; the main thread alone can ask for it."""
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def leave_signals_to_the_trainer(_: int) -> None:
    """The trainer finishes its step with the batches it waits for; workers end with it, however it ends."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    if _HELD_BACK:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


_HELD_BACK = "pthread_sigmask" in vars(signal)
"""True where signals can be held back; not on Windows."""


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Hold signals back; what arrives meanwhile comes afterwards."""
    if not _HELD_BACK:
        yield
        return
    resource_tracker.ensure_running()  # or it would be started inside, and let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
