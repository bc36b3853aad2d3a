"""Parent, children and the official small model, by SevenNet's own code and by equiprune's, taking turns."""

import argparse

import torch

import equiprune as ep
from equiprune.evaluation.benchmark import table
from equiprune.evaluation.engines import OWN, UpstreamEngine

HALF = "64x0e+32x1e+16x2e"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for dtype in (torch.float32, torch.float64):
        parent = ep.load("7net-l3i5", dtype=dtype, device=arguments.device)
        scores = ep.data_free_scores(parent, ep.Magnitude())  # speed depends on the shape, not on the choice
        models = {"7net-l3i5": parent}
        for name, targets in (("7net-0 irreps", [ep.Lmax(2)]), ("half width", [ep.HiddenIrreps.parse(HALF)])):
            models[name] = ep.prune(parent, ep.allocate(parent, [*targets, ep.EdgeLmax(2)], scores))
        models["7net-0 (official)"] = ep.load("7net-0", dtype=dtype, device=arguments.device)
        atoms = ep.probe_structures(parent.elements)["ionic"].repeat(2)
        timings = ep.benchmark(models, atoms, repeats=arguments.repeats, engines=[UpstreamEngine(), OWN])
        for row in table(timings):
            print("  ".join(f"{cell:>22}" for cell in row))
        print()


if __name__ == "__main__":
    main()
