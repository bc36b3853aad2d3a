"""What calibration costs on top of plain force calls: CPU time, taking turns, and memory in processes of their own.

Allowed: 1.15 times the CPU time and 1.5 times the memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from reference_data import mptrj

import equiprune as ep
from equiprune.evaluation.memory import peak_memory
from equiprune.pruning.calibration import score_batch
from equiprune.structures.batching import batches
from equiprune.structures.probes import probe_structures


def cpu_ratio(potential: ep.Potential, structures: list, repeats: int, batch_atoms: int) -> dict:
    """Interleaved CPU seconds of both over the same batches, graphs included."""
    groups = list(batches(structures, batch_atoms))
    plain, scored = [], []
    for repeat in range(-1, repeats):
        for batch in groups:
            start = time.process_time()
            potential.differentiate(potential.graph(batch))
            middle = time.process_time()
            score_batch(potential, batch, ep.Taylor())
            end = time.process_time()
            if repeat >= 0:
                plain.append(middle - start)
                scored.append(end - middle)
    ratios = [b / a for a, b in zip(plain, scored, strict=True)]
    return {
        "structures": len(structures),
        "force_call_cpu_s": sum(plain),
        "calibration_cpu_s": sum(scored),
        "ratio_of_sums": sum(scored) / sum(plain),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def peak_bytes(model: str, mode: str) -> int:
    """Memory that one evaluation of a 64-atom cell adds, in a process of its own."""
    command = [sys.executable, __file__, "--model", model, "--peak", mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_peak(model: str, mode: str) -> None:
    torch.set_num_threads(1)
    potential = ep.load(model)
    atoms = probe_structures(potential.elements)["ionic"]
    work = {
        "force": lambda s: potential.differentiate(potential.graph([s])),
        "score": lambda s: score_batch(potential, [s], ep.Taylor()),
    }
    work[mode](atoms)
    print(peak_memory(lambda: work[mode](atoms.repeat(2)), potential.device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="7net-l3i5")
    parser.add_argument("--structures", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-atoms", type=int, default=64)
    parser.add_argument("--json")
    parser.add_argument("--peak", choices=["force", "score"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        measure_peak(arguments.model, arguments.peak)
        return
    torch.set_num_threads(1)
    result = cpu_ratio(
        ep.load(arguments.model), mptrj(16)[: arguments.structures], arguments.repeats, arguments.batch_atoms
    )
    force, score = peak_bytes(arguments.model, "force"), peak_bytes(arguments.model, "score")
    result |= {"force_peak_bytes": force, "calibration_peak_bytes": score, "memory_ratio": score / force}
    print(f"{arguments.model}, float32, e3nn on CPU, 1 thread, batches of up to {arguments.batch_atoms} atoms")
    for key, value in result.items():
        print(f"  {key:24} {value:,.3f}" if isinstance(value, float) else f"  {key:24} {value:,}")
    if arguments.json:
        with open(arguments.json, "w") as stream:
            json.dump(result, stream, indent=1)


if __name__ == "__main__":
    main()
