"""Peak memory of a piece of work."""

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def peak_memory(work: Callable[[], object], device: torch.device) -> int:
    """Bytes that ``work`` needs at its worst moment.

    On a GPU everything the allocator holds, weights included. On a CPU what the process needs beyond what it held
    before; measured on Linux with glibc, where free memory can be given back and the high-water mark reset, and the
    growth of the all-time peak elsewhere.
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
        peak = _high_water_mark
    except (OSError, AttributeError):
        peak = _largest_so_far
    before = peak()
    work()
    return peak() - before


def _high_water_mark() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _largest_so_far() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
