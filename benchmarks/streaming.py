"""Memory and time that it takes to read large files: all structures in order, and 200 anywhere as training reads them.

``python benchmarks/streaming.py --megabytes 1000``; less is a trial. Files are made, read and removed one by one; those
that are compressed have as many bytes before. Each is read by the public reader, with its labels, in a process of its
own with one thread. Peak memory is what the kernel saw resident (``VmHWM``, Linux), mapped pages of the file included;
beside it is that of the process before it read anything, which is imports. Structures have 500 atoms, molecules 300.
Seconds are CPU time of the process. Formats without random access have no second part: training holds them in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from large_files import WRITERS

MB = 10**6
ONE_AFTER_ANOTHER = ("a.extxyz.gz", "a.extxyz.zip", "mptrj.json", "matpes.json", "a.traj")
"""Training holds these in memory."""
RANDOM = 200
"""Structures that are read anywhere."""


@dataclass(frozen=True)
class Read:
    """A process that read a file: structures, CPU seconds, and peak memory before and after (MB)."""

    structures: int
    seconds: float
    imports: float
    peak: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--megabytes", type=int, default=1000)
    arguments.add_argument("--formats", nargs="*", choices=list(WRITERS), default=list(WRITERS), metavar="FORMAT")
    arguments.add_argument("--folder", type=Path, help="where files are made; a temporary folder unless given")
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.read:
        print(json.dumps(asdict(read(Path(given.read[1]), at_random=given.read[0] == "random"))))
        return
    print("| Format | File, MB | Structures | CPU, s | Peak, MB | of it imports | 200 anywhere: CPU, s | Peak, MB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for name in given.formats:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            rows.append(measured(name, given.megabytes * MB, Path(folder)))
        print(shown(rows[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def measured(name: str, size: int, folder: Path) -> dict[str, Any]:
    """A line of the table."""
    path = folder / name
    WRITERS[name](path, size)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    found: dict[str, Any] = {"format": name, "megabytes": sum(file.stat().st_size for file in files) / MB}
    found["streamed"] = asdict(in_process(path, "all"))
    found["random"] = None if name in ONE_AFTER_ANOTHER else asdict(in_process(path, "random"))
    return found


def shown(row: dict[str, Any]) -> str:
    whole, some = row["streamed"], row["random"]
    anywhere = f"{some['seconds']:.1f} | {some['peak']:.0f}" if some else "- | -"
    return (
        f"| {row['format']} | {row['megabytes']:,.0f} | {whole['structures']:,} | {whole['seconds']:.0f} | "
        f"{whole['peak']:.0f} | {whole['imports']:.0f} | {anywhere} |"
    )


def in_process(path: Path, which: str) -> Read:
    """The file read by a new process."""
    words = [sys.executable, __file__, "--read", which, str(path)]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.PIPE)
    return Read(**json.loads(done.stdout))


def read(path: Path, *, at_random: bool) -> Read:
    """All structures with their labels, or some of them."""
    import ase.io  # noqa: F401  what a command imports anyway

    import equiprune as ep
    from equiprune.structures.labels import Labels

    read_structures, open_structures = ep.read_structures, ep.open_structures  # imports what they need
    imports, begun, number = peak(), time.process_time(), 0
    if at_random:
        opened = open_structures(path)
        chosen: Iterator[Any] = map(opened.__getitem__, np.random.default_rng(0).integers(len(opened), size=RANDOM))
    else:
        chosen = read_structures(path)
    for atoms in chosen:
        labels = Labels.of(atoms)
        if labels.energy is None or labels.forces is None:
            raise SystemExit(f"Structure {number} of '{path}' has lost a label.")
        number += 1
    return Read(number, time.process_time() - begun, imports, peak())


def peak() -> float:
    """The most memory that was resident so far, MB; of this process alone, unlike ``ru_maxrss``."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / MB


if __name__ == "__main__":
    main()
