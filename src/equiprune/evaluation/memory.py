"""Peak memory of a piece of work."""

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def peak_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that ``work`` needs at its worst moment.

    On a GPU everything the allocator holds, weights included. On a CPU what the process needs beyond what it held
    before; measured on Linux with glibc, where free memory can be given back and the high-water mark reset, the growth
    of the all-time peak on other Unixes, and None on Windows.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # or memory freed earlier would be used again unseen
        _RESET.write_text("5")
        peak: Callable[[], int | None] = _high_water_mark
    except (OSError, AttributeError, TypeError):  # what a system without one of these says
        peak = _largest_so_far
    before = peak()
    work()
    after = peak()
    return None if before is None or after is None else after - before


def held_memory(device: torch.device) -> int:
    """Bytes of a `peak_memory` that were there before: on a GPU what the allocator holds, on a CPU none."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _high_water_mark() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _largest_so_far() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
