"""Ctrl-C and SIGTERM as a wish: the step in progress is finished, and its state saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from equiprune.errors import EquipruneError


class StoppedError(EquipruneError):
    """Training was asked to stop; the state is saved, and the same command goes on."""


@contextmanager
def stopping_politely(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C call ``stop`` meanwhile, and do nothing else."""
    if threading.current_thread() is not threading.main_thread():  # Python lets no other set handlers
        yield
        return
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
