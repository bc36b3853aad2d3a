"""What smaller means for MACE: L = 2, 1, 0 at 128 channels, 128 and 64 channels, and lossless pruning, side by side.

Speed depends on shapes, not on weights: the models of L = 2, 1 and 0 are random with the hyperparameters of MACE-MP-0,
the others are MACE-MP-0 small and what is pruned from it. Models and engines take turns on one structure.
"""

import argparse
from collections.abc import Mapping, Sequence

import torch
from ase import Atoms

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.architecture import uniform
from equiprune.errors import TargetError
from equiprune.evaluation.benchmark import table, timed
from equiprune.evaluation.engines import engine_named, verified

ELEMENTS = (*range(1, 84), *range(89, 95))
REAL = "mace-mp-small"


def random_mp(lmax: int, dtype: torch.dtype, device: str, channels: int = 128) -> ep.Potential:
    """MACE-MP-0's hyperparameters with random weights."""
    adapter = MaceAdapter()
    torch.manual_seed(0)
    arch = uniform(
        channels, lmax, avg_num_neighbors=61.96, elements=ELEMENTS, cutoff=6.0, radial_basis=10, cutoff_power=5
    )
    module = adapter.build(arch, dtype)
    weights = {name: module.state_dict()[name] for name in adapter.layouts(arch)}
    return ep.Potential.create(adapter, Checkpoint(arch, weights, licence="MIT"), dtype, device=device)


def pruned(targets: list, dtype: torch.dtype, device: str, **options: int) -> ep.Potential:
    return cut(ep.load(REAL, dtype=dtype, device=device), targets, **options)


def cut(parent: ep.Potential, targets: list, **options: int) -> ep.Potential:
    """A child by magnitude: speed depends on shapes, and not on which channels stay."""
    return ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Magnitude()), **options))


FAMILIES = {
    "max L of the hidden features, random weights": {
        "L=2 C128": lambda dtype, device: random_mp(2, dtype, device),
        "L=1 C128": lambda dtype, device: random_mp(1, dtype, device),
        "L=0 C128": lambda dtype, device: random_mp(0, dtype, device),
    },
    "channels, MACE-MP-0 small": {
        "C128": lambda dtype, device: ep.load(REAL, dtype=dtype, device=device),
        "C128 lossless": lambda dtype, device: pruned([ep.Lossless()], dtype, device, round_to=16),
        "C96": lambda dtype, device: pruned([ep.Channels(96)], dtype, device),
        "C64": lambda dtype, device: pruned([ep.Channels(64)], dtype, device),
    },
}


def structure() -> Atoms:
    """Rock salt, 64 atoms, rattled."""
    return ep.probe_structures(ELEMENTS)["ionic"].repeat(2)


def prepared(models: Mapping[str, ep.Potential], engines: Sequence[str]) -> dict[tuple[str, str], ep.Potential]:
    """Models as engines evaluate them, by names of model and engine, compared first; refusals are printed."""
    found = {}
    for name, potential in models.items():
        for engine in engines:
            try:
                found[name, engine] = verified(engine_named(engine), potential, structure())
            except TargetError as error:
                print(f"{name}, {engine}: {error}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--engines", nargs="+", default=["upstream"], help="symmetrix too, on a CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for family, makers in FAMILIES.items():
        for dtype in (torch.float32, torch.float64):
            models = {name: make(dtype, arguments.device) for name, make in makers.items()}
            print(f"{family}; {arguments.device}")
            timings = timed(prepared(models, arguments.engines), structure(), repeats=arguments.repeats)
            for row in table(timings):
                print("  ".join(f"{cell:>20}" for cell in row), flush=True)
            print()


if __name__ == "__main__":
    main()
