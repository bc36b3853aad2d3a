"""Ctrl-C, SIGTERM and a closed terminal as a wish: the step in progress is finished, and its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
def stopping_politely(stop: Callable[[], None]) -> Iterator[None]:
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
