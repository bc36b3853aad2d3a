"""Write what a machine without a network needs: ``python -m benchmarks.gpu.prepare FOLDER --data DATA``.

Parent, official small model, and the children where training starts (l3i5 at SevenNet-0's irreps and at half width,
chosen by importance on the crystals of the demo), in equiprune's native format; and the structures where labelling
starts.
"""

import argparse
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import equiprune as ep
from benchmarks.gpu.structures import starting_structures, write_starting

TARGETS: Mapping[str, Sequence[object]] = {
    "compact-start": (ep.Lmax(2), ep.EdgeLmax(2)),
    "mini-start": (ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)),
}


def main() -> None:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="reference data with mptrj_sample and mp_elasticity")
    parser.add_argument("--neighbours", type=int, default=60_000, help="decorated crystals, and as many packed groups")
    chosen = parser.parse_args()
    folder = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    parent = ep.load("7net-l3i5")
    with as_file(files("equiprune.cli") / "demo_data" / "calibration.extxyz.xz") as path:
        scores = ep.calibrate(parent, list(ep.read_structures(path)))
    for name, targets in TARGETS.items():
        ep.save(ep.prune(parent, ep.allocate(parent, targets, scores)), folder / name)
    ep.save(parent, folder / "l3i5")
    ep.save(ep.load("7net-0"), folder / "7net-0")
    structures = list(starting_structures(chosen.data, parent.elements, chosen.neighbours, seed=0))
    write_starting(structures, folder / "starting-structures.npz")


if __name__ == "__main__":
    main()
