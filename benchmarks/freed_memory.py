"""Time that a process spends on getting freed memory back: ``python benchmarks/freed_memory.py 7net-l3i5``.

Forces of one structure, labels of crystals of several sizes and training steps of small ones, each in a process of its
own, with and without `equiprune.keep_freed_memory`, in turns; CPU time of the work, page faults, and the largest memory
of the process. Linux with glibc.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from ase import Atoms

import equiprune as ep
from equiprune.training.arguments import TrainingData

Work = Callable[[ep.Potential, int, int], Callable[[], object]]
"""Something to do for a model, a size and a number of times; its preparations are not measured."""


def crystal(potential: ep.Potential, repeat: int) -> Atoms:
    """Rock salt of elements that the model knows, displaced; 8 * repeat^3 atoms."""
    atoms = ep.probe_structures(potential.elements)["ionic"].repeat(repeat)
    atoms.rattle(0.05, seed=1)
    return atoms


def evaluated(potential: ep.Potential, repeat: int, times: int) -> Callable[[], object]:
    """Energy, forces and stress of one structure, so many times."""
    atoms = crystal(potential, repeat)
    return lambda: [potential.predict([atoms]) for _ in range(times)]


def labelled(potential: ep.Potential, _repeat: int, times: int) -> Callable[[], object]:
    """Labels, in the batches of ``equiprune label``, of crystals of 8, 16, 24, ... atoms, so many."""
    unit = ep.probe_structures(potential.elements)["ionic"]
    structures = [unit.repeat((1, 1, 1 + number % 6)) for number in range(times)]
    return lambda: list(ep.label(potential, structures))


def trained(potential: ep.Potential, _repeat: int, steps: int) -> Callable[[], object]:
    """Training of so many steps of four crystals of 8 atoms."""
    data = TrainingData(list(ep.label(potential, [crystal(potential, 1)] * 4)) * steps)
    known = ep.PRESETS["sevennet"]
    recipe = ep.Recipe(known.objective, known.optimisation, 1, 4, 0)
    folder = tempfile.mkdtemp()
    return lambda: ep.train(potential, data, recipe, Path(folder) / "run")


WORK: Mapping[str, Work] = {"forces": evaluated, "labels": labelled, "training": trained}


def measured(model: str, work: str, *, kept: bool, repeat: int, times: int) -> dict[str, float]:
    """CPU time in seconds, page faults, and peak in MiB, in this process."""
    torch.set_num_threads(1)
    if kept and not ep.keep_freed_memory():
        sys.exit("This system has no such choice: it is one of Linux with glibc.")
    potential = ep.load(model)
    piece = WORK[work](potential, repeat, times)
    potential.predict([crystal(potential, 1)])
    before = resource.getrusage(resource.RUSAGE_SELF)
    piece()
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": spent, "faults": after.ru_minflt - before.ru_minflt, "mebibytes": after.ru_maxrss / 1024}


def in_turns(chosen: argparse.Namespace) -> Mapping[str, Mapping[bool, list[dict[str, float]]]]:
    """Results by work and by whether memory is kept; each in a process of its own."""
    found: dict[str, dict[bool, list[dict[str, float]]]] = {work: {False: [], True: []} for work in WORK}
    for _ in range(chosen.turns):
        for work in WORK:
            for kept in (False, True):
                words = [sys.executable, __file__, chosen.model, "--work", work, *(["--kept"] if kept else [])]
                words += ["--repeat", str(chosen.repeat), "--times", str(chosen.times)]
                said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
                found[work][kept].append(json.loads(said.splitlines()[-1]))
    return found


def main() -> None:
    """Print a table, or, as one of its own processes, one result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--times", type=int, default=12, help="force calls, labelled structures, training steps")
    parser.add_argument("--repeat", type=int, default=2, help="8 times its cube are the atoms of the force calls")
    parser.add_argument("--work", choices=WORK, help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        how = {"kept": chosen.kept, "repeat": chosen.repeat, "times": chosen.times}
        print(json.dumps(measured(chosen.model, chosen.work, **how)))
        return
    print("| work | CPU time without, s | with | ratio (range of turns) | page faults | with | peak, MiB | with |")
    print("|---|---|---|---|---|---|---|---|")
    for work, found in in_turns(chosen).items():
        pairs = list(zip(found[False], found[True], strict=True))
        ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
        cells = [work]
        for of in (found[False], found[True]):
            cells.append(f"{statistics.median(each['seconds'] for each in of):.2f}")
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})")
        for of in (found[False], found[True]):
            cells.append(f"{statistics.median(each['faults'] for each in of):,.0f}")
        for of in (found[False], found[True]):
            cells.append(f"{statistics.median(each['mebibytes'] for each in of):,.0f}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
