"""The convolution of SevenNet and Nequix: equiprune's code beside upstream's own, for forces and a step of training.

Models and codes take turns in one run; times are CPU times, median and minimum. Memory is what one evaluation adds at
its peak, each in a process of its own. Before anything is timed, both must predict the same. Needs no data.

    OMP_NUM_THREADS=1 python benchmarks/convolution.py
    OMP_NUM_THREADS=1 python benchmarks/convolution.py nequix-oam-1 nequix-compact

``--profile`` tells what the time goes into, in the place of timing: shares of torch's operations.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from ase import Atoms

import equiprune as ep
from equiprune.adapters.e3nn.fused_gradients import quicker_gradients
from equiprune.evaluation.memory import peak_memory
from equiprune.structures.graph import AtomicGraph

HALF = "64x0e+32x1e+16x2e"
MODELS = ("7net-l3i5", "7net-0", "half width")
CODES = ("upstream", "equiprune")
WORK = ("energy and forces", "step of training")

Evaluation = Callable[[], object]


def opened(model: str, dtype: torch.dtype) -> ep.Potential:
    if model != "half width":
        return ep.load(model, dtype=dtype)
    parent = ep.load("7net-l3i5", dtype=dtype)
    scores = ep.data_free_scores(parent, ep.Magnitude())  # speed depends on the shape, not on the choice
    return ep.prune(parent, ep.allocate(parent, [ep.HiddenIrreps.parse(HALF), ep.EdgeLmax(2)], scores))


def evaluation(opened: ep.Potential, code: str, work: str, atoms: Atoms) -> Evaluation:
    """Upstream's code in training has the rearranged gradients that equiprune gave it before: the fairer comparison."""
    learns = work == WORK[1]
    with quicker_gradients() if learns else nullcontext():
        potential = opened.as_upstream() if code == "upstream" else opened
    if code == "equiprune" and learns:
        potential = ep.Potential.create(opened.adapter, opened.checkpoint, opened.dtype, for_training=True)
    graph = potential.graph([atoms])
    return (lambda: step(potential, graph)) if learns else (lambda: potential.differentiate(graph))


def step(potential: ep.Potential, graph: AtomicGraph) -> dict[str, torch.Tensor]:
    """The gradient of a loss of energies, forces and stress in all weights."""
    weights = {name: weight for name, weight in potential.module.named_parameters() if weight.requires_grad}
    predicted = potential.for_training().train()(graph, graph.positions.new_empty(0, *graph.positions.shape))
    loss = sum(
        (predicted[name].square().mean() for name in ("energy", "forces", "stress")), graph.positions.new_zeros(())
    )
    for weight in weights.values():
        weight.grad = None
    loss.backward()
    return {name: weight.grad for name, weight in weights.items()}


def check(found: dict[str, dict[str, Evaluation]], atoms: int, single: bool) -> None:
    """Both codes predict and learn the same, to rounding."""
    ours, theirs = (found[code][WORK[0]]() for code in CODES)
    energy = float((ours.energies - theirs.energies).abs().max()) / atoms
    forces = float((ours.forces - theirs.forces).abs().max())
    mine, other = (torch.cat([g.flatten() for g in found[code][WORK[1]]().values()]) for code in CODES)
    gradient = float((mine - other).norm() / other.norm())
    print(f"apart: {energy:.0e} eV/atom, {forces:.0e} eV/Angstrom, {gradient:.0e} of the gradient of the weights")
    limits = (1e-5, 1e-4, 1e-4) if single else (1e-12, 1e-10, 1e-9)
    if any(value > limit for value, limit in zip((energy, forces, gradient), limits, strict=True)):
        sys.exit("The two codes are not the same function.")


def timed(found: dict[str, dict[str, dict[str, Evaluation]]], repeats: int) -> dict[tuple[str, str, str], list[float]]:
    """CPU seconds by model, work and code."""
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for repeat in range(-1, repeats):
        for model, codes in found.items():
            for work in WORK:
                for code, evaluate in codes.items():
                    start = time.process_time()
                    evaluate[work]()
                    spent = time.process_time() - start
                    if repeat >= 0:
                        seconds.setdefault((model, work, code), []).append(spent)
    return seconds


def profiled(found: dict[str, dict[str, dict[str, Evaluation]]], most: int = 8) -> None:
    """The operations of torch that take most of the CPU time of an evaluation, without those that they call."""
    print("| model | work | code | share of CPU time, % |\n|---|---|---|---|")
    for model, codes in found.items():
        for work in WORK:
            for code, evaluate in codes.items():
                evaluate[work]()
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                    evaluate[work]()
                events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
                total = sum(event.self_cpu_time_total for event in events)
                shares = (f"{e.key.removeprefix('aten::')} {100 * e.self_cpu_time_total / total:.0f}" for e in events)
                print(f"| {model} | {work} | {code} | {', '.join(list(shares)[:most])} |", flush=True)


def peak(model: str, code: str, work: str, dtype: str) -> int:
    """Bytes, by a process of its own."""
    command = [sys.executable, __file__, "--peak", model, code, work, "--dtype", dtype]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, help=f"'{MODELS[-1]}' is a child of l3i5")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    atoms = ep.probe_structures([11, 17])["ionic"].repeat(2)
    atoms.rattle(0.05, seed=0)
    if arguments.peak:
        model, code, work = arguments.peak
        evaluate = evaluation(opened(model, dtype), code, work, atoms)
        print(peak_memory(evaluate, torch.device("cpu")) or 0)
        return
    found = {}
    for model in arguments.models:
        start = opened(model, dtype)
        found[model] = {code: {work: evaluation(start, code, work, atoms) for work in WORK} for code in CODES}
    for codes in found.values():
        check(codes, len(atoms), dtype == torch.float32)
    if arguments.profile:
        profiled(found)
    else:
        report(arguments, atoms, timed(found, arguments.repeats))


def report(arguments: argparse.Namespace, atoms: Atoms, seconds: dict[tuple[str, str, str], list[float]]) -> None:
    edges = (
        ep.load(MODELS[1] if MODELS[1] in arguments.models else arguments.models[0]).graph([atoms]).edge_index.shape[1]
    )
    print(
        f"\n{arguments.dtype}, CPU, {arguments.threads} thread(s), one structure of {len(atoms)} atoms, {edges} edges"
    )
    print(f"CPU ms per atom, median (minimum) of {arguments.repeats}; peak memory in MiB; upstream / equiprune\n")
    print(
        "| model | work | upstream | equiprune | times faster | memory | of upstream's |\n|---|---|---|---|---|---|---|"
    )
    rows = []
    for model in arguments.models:
        for work in WORK:
            theirs, ours = ([1e3 * s / len(atoms) for s in seconds[model, work, code]] for code in CODES)
            memory = [peak(model, code, work, arguments.dtype) / 2**20 for code in CODES]
            faster = statistics.median(theirs) / statistics.median(ours)
            times = " | ".join(f"{statistics.median(t):.1f} ({min(t):.1f})" for t in (theirs, ours))
            print(f"| {model} | {work} | {times} | {faster:.1f} | {memory[0]:.0f} / {memory[1]:.0f} | "
                  f"{memory[1] / memory[0]:.0%} |", flush=True)  # fmt: skip
            rows.append({"model": model, "work": work, "upstream": theirs, "equiprune": ours, "memory": memory})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
