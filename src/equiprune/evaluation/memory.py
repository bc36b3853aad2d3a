"""Peak memory of a piece of work."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch

_STATUS = Path("/proc/self/status")
_MACHINE = Path("/proc/meminfo")
_RESET = Path("/proc/self/clear_refs")
_MEMBERSHIP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class _ControlGroups(NamedTuple):
    """Control groups of Linux, of one version: their kind, their folder, and the names of what is read there, bytes."""

    kind: str
    folder: str
    limit: str
    used: str
    files: str


_VERSIONS = (
    _ControlGroups("", "", "memory.max", "memory.current", "inactive_file"),
    _ControlGroups("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Version 2, and version 1."""


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


def added_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that ``work`` needs beyond what is held already; None where `peak_memory` is."""
    before = held_memory(device)
    peak = peak_memory(work, device)
    return None if peak is None else peak - before


def tensor_memory(work: Callable[[], object], device: torch.device) -> int | None:
    """Bytes of the tensors that ``work`` makes, at its worst moment: on a CPU the same number each time, on any system.

    A process takes more than its tensors from the system: memory in pieces, what libraries keep. On a CPU that is up to
    as much again for small batches and a few per cent for large ones (docs/results.md, what the cost model predicts),
    so that `peak_memory` of a small batch says little about a large one, and this does. Where torch was built
    without its profiler it is `added_memory`.
    """
    if device.type == "cuda" or not torch.profiler.kineto_available():
        return added_memory(work, device)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or starting and stopping is told on the screen
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    results = profile.profiler and profile.profiler.kineto_results
    if not results:
        return None
    found = sorted(_allocations(results.experimental_event_tree()))
    return max(accumulate(size for _, size in found), default=0)


def _allocations(events: list[Any]) -> Iterator[tuple[int, int]]:
    """Times and sizes of what was allocated, sizes of what was freed negative."""
    waiting = list(events)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag.name == "Allocation":
            yield event.start_time_ns, event.extra_fields.alloc_size


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's options (malloc.h)."""
_LARGE = (2**30, 2**25)
"""Bytes below which memory comes from the heap; older versions of glibc take no more than the second."""


def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, and use it again; true where that is possible.

    Otherwise large tensors come from the system and go back to it one by one, and the system clears every page each
    time, which slows force calls on a CPU (docs/results.md, freed memory). The process keeps what its largest
    moment took until it ends. Linux with glibc only. The command line does this for every command but those that
    measure time; what a tensor holds in a GPU is not concerned.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # what a system without it says
        return False
    kept = set_option(_TRIM_THRESHOLD, 2**31 - 1)
    return bool(kept and any(set_option(_MMAP_THRESHOLD, size) for size in _LARGE))


def held_memory(device: torch.device) -> int:
    """Bytes of a `peak_memory` that were there before: on a GPU what the allocator holds, on a CPU none."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def obtainable_memory(device: torch.device) -> int | None:
    """Bytes that tensors of this process have or could have on a GPU; None on a CPU, whose memory is everybody's."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)


def measures_each_peak() -> bool:
    """True where the peak of a process can be measured again and again, whatever it was before."""
    try:
        _RESET.write_text("5")
        return _high_water_mark() > 0
    except OSError:
        return False


def free_memory() -> int:
    """Bytes of main memory that this process can still have: of the machine's, and of its job's or container's.

    Linux only. A batch system or a container limits a control group, whose processes are ended when they take more,
    however much the machine has.
    """
    return max(0, min([_kilobytes(_MACHINE, "MemAvailable") * 1024, *_free_in_groups()]))


def _free_in_groups() -> Iterator[int]:
    """Bytes that are left of every limit that this process is under."""
    with suppress(OSError):  # a system without control groups
        for line in _MEMBERSHIP.read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            group = PurePosixPath(name)
            for version in (each for each in _VERSIONS if each.kind in kinds.split(",")):
                for path in (group, *group.parents):
                    with suppress(OSError, ValueError):  # no such group in this container, or no limit: "max"
                        yield _free_in(_GROUPS / version.folder / path.relative_to("/"), version)


def _free_in(folder: Path, version: _ControlGroups) -> int:
    """Bytes that a group may still have: memory of files that were read is given up when it is needed."""
    most, now = (int((folder / name).read_text()) for name in (version.limit, version.used))
    statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return most - now + int(statistics.get(version.files, 0))


def limit_memory(more: int) -> None:
    """Let this process have so many bytes beyond what it has: asking for more raises an error; Linux only."""
    import resource

    held = _kilobytes(_STATUS, "VmData") * 1024
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + more
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _high_water_mark() -> int:
    return _kilobytes(_STATUS, "VmHWM") * 1024


def _kilobytes(file: Path, name: str) -> int:
    return int(next(line for line in file.read_text().splitlines() if line.startswith(name)).split()[1])


def _largest_so_far() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
