"""What it takes to build batches from a file: alone, with a cold and a warm cache of neighbour lists, and by workers.

python benchmarks/loading.py STRUCTURES [--cutoff 5] [--batch-size 16] [--workers 2]

CPU time of the training process, which is what the model waits for, and wall time; both per structure.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

import equiprune as ep
from equiprune.structures.graph import neighbours
from equiprune.structures.neighbour_cache import NeighbourCache
from equiprune.training.batches import groups
from equiprune.training.loading import Batches, Loader, Request


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("structures", type=Path)
    arguments.add_argument("--cutoff", type=float, default=5.0)
    arguments.add_argument("--batch-size", type=int, default=16)
    arguments.add_argument("--workers", type=int, default=2)
    given = arguments.parse_args()
    structures = ep.open_structures(given.structures)
    with tempfile.TemporaryDirectory() as folder:
        cache = NeighbourCache.at(Path(folder))
        kinds = {"alone": (neighbours, 0), "cold cache": (cache, 0), "warm cache": (cache, 0)}
        kinds[f"{given.workers} workers"] = (neighbours, given.workers)
        for name, (near, workers) in kinds.items():
            load = Loader(Batches({"all": structures}, given.cutoff, torch.float32, near), workers)
            next(load([Request("all", [0])]))  # workers start
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in load([Request("all", group) for group in groups(len(structures), given.batch_size, 0, 0)]):
                pass
            each = [1000 * spent / len(structures) for spent in (time.process_time() - cpu, time.perf_counter() - wall)]
            print(f"{name:12s} CPU {each[0]:.2f} ms, wall {each[1]:.2f} ms per structure")


if __name__ == "__main__":
    main()
