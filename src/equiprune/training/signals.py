"""Ctrl-C, SIGTERM and a closed terminal as a wish: the step in progress is finished, and its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from equiprune.errors import EquipruneError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C and the end of a terminal reach every process of it, SIGTERM often every process of a job."""


class StoppedError(EquipruneError):
    """Training was asked to stop; the state is saved, and the same command goes on."""


@contextmanager
def stopping_politely(stop: Callable[[], None]) -> Iterator[None]:
    """Signals to end call ``stop`` meanwhile, and do nothing else; one that is ignored (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():  # Python lets no other set handlers
        yield
        return
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: stop()) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_signals_to_the_trainer(_: int) -> None:
    """The trainer finishes its step with the batches it waits for; workers end with it, however it ends."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """What arrives meanwhile comes afterwards."""
    resource_tracker.ensure_running()  # or it would be started inside, and let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
