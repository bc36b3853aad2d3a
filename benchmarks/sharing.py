"""Throughput of two processes against one: labelling, calibration and evaluation of the same structures.

``python benchmarks/sharing.py 7net-0 --structures 500``. Every command is run by one process and by two, in turns, each
with one thread; their results are compared byte by byte. Then labelling by two processes is killed half-way and
repeated by three.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import ase.io
from ase.build import bulk
from reference_data import mptrj

import equiprune as ep
from equiprune.pruning.calibration import score_batch
from equiprune.structures.batching import batch_ranges

EQUIPRUNE = [sys.executable, "-m", "equiprune"]


def commands(model: str, folder: Path) -> dict[str, list[str]]:
    """Each command without its output, by name."""
    data, labelled = str(folder / "structures.extxyz"), str(folder / "labelled.extxyz")
    return {
        "label": ["label", model, data],
        "calibrate": ["calibrate", model, data],
        "evaluate": ["evaluate", model, "--data", labelled, "--json"],
    }


def timed(words: Sequence[str], output: Path, processes: int) -> float:
    """Seconds of a command, with what it starts with; its result is in the file."""
    begun = time.perf_counter()
    writes = words[0] != "evaluate"
    command = [*EQUIPRUNE, *words, "--processes", str(processes), *(["-o", str(output)] if writes else [])]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    if not writes:
        output.write_bytes(done.stdout)
    return time.perf_counter() - begun


def killed(words: Sequence[str], output: Path, size: int) -> int:
    """Bytes that were finished when two processes were killed."""
    command = [*EQUIPRUNE, *words, "--processes", "2", "-o", str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    folder = output.with_name(output.name + ".partial")
    while (finished := sum(path.stat().st_size for path in folder.glob("piece-*.*l"))) < size / 2:
        if process.poll() is not None:
            raise SystemExit("It was finished before it could be killed. Give more structures.")
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return finished


def at_scale(model: str, structures: int) -> str:
    """Sizes for so many structures of 30 atoms: the list of batches of 256 atoms, and bytes of calibration for each."""
    potential, crystal = ep.load(model), bulk("NaCl", "rocksalt", 5.6, cubic=True)
    written = len(json.dumps(score_batch(potential, [crystal] * 3, ep.Taylor()).to_json()))
    tracemalloc.start()
    begun = time.perf_counter()
    count = len(batch_ranges([30] * structures, 256))
    seconds, (_, peak) = time.perf_counter() - begun, tracemalloc.get_traced_memory()
    return (
        f"{structures:,} structures: {count:,} batches, listed in {seconds:.1f} s with {peak / 1e6:.0f} MB at most; "
        f"calibration writes {written / 1e3:.0f} kB of each, {written * count / 1e9:.0f} GB."
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="7net-0")
    parser.add_argument("--structures", type=int, default=500)
    parser.add_argument("--largest", type=int, default=20, help="atoms")
    parser.add_argument("--at-scale", type=int, help="only sizes for so many structures")
    asked = parser.parse_args()
    if asked.at_scale:
        print(at_scale(asked.model, asked.at_scale))
        return
    with TemporaryDirectory() as place:
        folder = Path(place)
        structures = mptrj(asked.largest)[: asked.structures]
        ase.io.write(folder / "structures.extxyz", structures, format="extxyz")
        print(
            f"{len(structures)} structures, {sum(map(len, structures))} atoms; one thread a process, {asked.model}.\n"
        )
        print("| | one process, s | two, s | throughput | same bytes |\n| --- | --- | --- | --- | --- |")
        for name, words in commands(asked.model, folder).items():
            one, two = folder / f"{name}-1.extxyz", folder / f"{name}-2.extxyz"
            seconds = [timed(words, one, 1), timed(words, two, 2)]
            same = one.read_bytes() == two.read_bytes()
            ratio = seconds[0] / seconds[1]
            print(f"| {name} | {seconds[0]:.0f} | {seconds[1]:.0f} | {ratio:.2f} | {same} |", flush=True)
            if name == "label":
                (folder / "labelled.extxyz").write_bytes(one.read_bytes())
        whole, output = folder / "label-1.extxyz", folder / "again.extxyz"
        words = commands(asked.model, folder)["label"]
        finished = killed(words, output, whole.stat().st_size)
        timed(words, output, 3)
        same = output.read_bytes() == whole.read_bytes()
        print(f"\nKilled after {finished / whole.stat().st_size:.0%}, repeated by three processes: same bytes {same}.")


if __name__ == "__main__":
    main()
