"""Is our training loop as fast as upstream's? The same model, structures, batch, loss and dtype in both.

``equiprune train`` against ``sevenn train`` or ``mace_run_train``, each a process of its own, taking turns, once for
few epochs and once for more: the difference is the time of the epochs alone, without imports, reading and compiling.
Memory is the largest resident set of the process. All structures are displaced copies of one crystal: each loop draws
batches in an order of its own, and the largest batch decides the memory. Both validate on one of them after every
epoch, because upstream's programs insist on validation.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

SUFFIXES = {"7net-l3i5": ".pth", "mace-mp-small": ".model"}
BATCH, ATOMS = 4, 12


@dataclass(frozen=True)
class Spent:
    """By one process: wall-clock seconds, CPU seconds, peak resident memory in MiB."""

    wall: float
    cpu: float
    memory: float


def spent(command: Sequence[str], cwd: Path) -> Spent:
    start = time.monotonic()
    with (cwd / "output.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{(cwd / 'output.txt').read_text()[-3000:]}")
    return Spent(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def ours(folder: Path, suffix: str, preset: str) -> Callable[[int, Path], list[str]]:
    def command(epochs: int, run: Path) -> list[str]:
        files = ["--data", str(folder / "train.extxyz"), "--validation", str(folder / "valid.extxyz")]
        settings = ["--epochs", str(epochs), "--batch-size", str(BATCH), "--preset", preset, "--learning-rate", "1e-4"]
        return [
            program("equiprune"),
            "train",
            str(folder / f"model{suffix}"),
            "-o",
            str(run / "run"),
            *files,
            *settings,
        ]

    return command


def sevenn(folder: Path) -> Callable[[int, Path], list[str]]:
    def command(epochs: int, run: Path) -> list[str]:
        recipe = yaml.safe_load((folder / "model.input.yaml").read_text())
        recipe["data"] |= {f"load_{kind}set_path": [str(folder / f"{kind}.extxyz")] for kind in ("train", "valid")}
        recipe["data"]["batch_size"] = BATCH
        recipe["train"] |= {"epoch": epochs, "optim_param": {"lr": 1e-4}}
        recipe["train"]["continue"]["checkpoint"] = str(folder / "model.pth")
        (run / "input.yaml").write_text(yaml.safe_dump(recipe))
        return [program("sevenn"), "train", "input.yaml", "-s"]

    return command


def mace(folder: Path) -> Callable[[int, Path], list[str]]:
    def command(epochs: int, run: Path) -> list[str]:
        files = ["--train_file", str(folder / "train.extxyz"), "--valid_file", str(folder / "valid.extxyz")]
        keys = ["--energy_key", "energy", "--forces_key", "forces", "--stress_key", "stress"]
        start = ["--foundation_model", str(folder / "model.model"), "--multiheads_finetuning", "False"]
        start += ["--E0s", "foundation", "--foundation_model_elements", "True"]
        same = ["--loss", "universal", "--energy_weight", "1", "--forces_weight", "10", "--stress_weight", "1"]
        same += ["--compute_stress", "True", "--amsgrad", "--ema", "--ema_decay", "0.99", "--lr", "1e-4"]
        size = ["--batch_size", str(BATCH), "--valid_batch_size", str(BATCH), "--max_num_epochs", str(epochs)]
        size += ["--default_dtype", "float32", "--device", "cpu", "--num_workers", "0"]
        return [program("mace_run_train"), "--name", "speed", *files, *keys, *start, *same, *size]

    return command


def prepare(model: str, folder: Path, structures: int) -> None:
    """A pruned model and labelled copies of one crystal in files."""
    import ase.io  # only here: a child's peak memory starts at what its parent process holds
    import torch
    from reference_data import mptrj

    import equiprune as ep
    from equiprune.labelling.augmentation import Augmentation, augmented
    from equiprune.labelling.label import label

    halves = {".pth": (ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)), ".model": (ep.Channels(64),)}
    parent = ep.load(model, dtype=torch.float32)
    crystal = next(atoms for atoms in mptrj(16) if len(atoms) == ATOMS)
    labelled = list(label(parent, augmented([crystal], Augmentation(copies=structures))))
    ase.io.write(folder / "train.extxyz", labelled[1:])
    ase.io.write(folder / "valid.extxyz", labelled[:1])
    targets = halves[SUFFIXES[model]]
    child = ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Magnitude())))
    ep.save(child, folder / f"model{SUFFIXES[model]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="7net-l3i5", choices=SUFFIXES)
    parser.add_argument("--structures", type=int, default=60)
    parser.add_argument("--epochs", type=int, nargs=2, default=(1, 4), help="few and more")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = multiprocessing.get_context("spawn").Process(
            target=prepare, args=(arguments.model, folder, arguments.structures)
        )
        prepared.start()
        prepared.join()
        if prepared.exitcode:
            sys.exit("The model and the structures could not be prepared, see above.")
        report(arguments, measured(arguments, folder))


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, list[tuple[float, float, float]]]:
    """Loop to seconds and CPU seconds per epoch, and memory in MiB, once per repeat."""
    suffix = SUFFIXES[arguments.model]
    if suffix == ".pth":
        loops = {"equiprune train": ours(folder, suffix, "sevennet"), "sevenn train": sevenn(folder)}
    else:
        loops = {"equiprune train": ours(folder, suffix, "mace-universal"), "mace_run_train": mace(folder)}
    found: dict[str, list[tuple[float, float, float]]] = {loop: [] for loop in loops}
    between = arguments.epochs[1] - arguments.epochs[0]
    for _ in range(arguments.repeats):
        for loop, command in loops.items():
            few, more = (spent_on(command, epochs) for epochs in arguments.epochs)
            row = ((more.wall - few.wall) / between, (more.cpu - few.cpu) / between, more.memory)
            found[loop].append(row)
            print(f"{loop}: {row[0]:.1f} s, {row[1]:.1f} CPU s per epoch, {row[2]:.0f} MiB", flush=True)
    return found


def spent_on(command: Callable[[int, Path], list[str]], epochs: int) -> Spent:
    with tempfile.TemporaryDirectory() as run:
        return spent(command(epochs, Path(run)), Path(run))


def report(arguments: argparse.Namespace, found: dict[str, list[tuple[float, float, float]]]) -> None:
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    mine, theirs = medians.values()
    steps = -(-arguments.structures // BATCH)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"\n{arguments.model}, pruned, float32, CPU, stock kernels, {threads} thread(s)")
    print(f"{arguments.structures} copies of a crystal of {ATOMS} atoms, {steps} steps of {BATCH} structures per epoch")
    print(f"median of {arguments.repeats}")
    print("| loop | s/epoch | CPU s/epoch | peak memory, MiB |\n|---|---|---|---|")
    for name, (wall, cpu, memory) in medians.items():
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {memory:.0f} |")
    print(f"throughput {theirs[0] / mine[0]:.2f} times (CPU time {theirs[1] / mine[1]:.2f})")
    print(f"memory {mine[2] / theirs[2]:.2f} times")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
