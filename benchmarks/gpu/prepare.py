"""Write what a machine without a network needs: ``python -m benchmarks.gpu.prepare FOLDER --data DATA``.

Parent, official small model, and the children where training starts (l3i5 at SevenNet-0's irreps and at half width,
chosen by importance on the crystals of the demo), in equiprune's native format; with ``--data`` also the structures
where labelling starts, and with ``--published ARCHIVE`` crystals of `published.py` among them. With ``--mace``, in an
environment with MACE, MACE-MP-0 small instead of all that.
"""

import argparse
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import equiprune as ep
from benchmarks.gpu.structures import starting_structures, write_starting
from benchmarks.published import published

TARGETS: Mapping[str, Sequence[object]] = {
    "compact-start": (ep.Lmax(2), ep.EdgeLmax(2)),
    "mini-start": (ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="reference data with mptrj_sample and mp_elasticity")
    parser.add_argument("--published", type=Path, metavar="ARCHIVE", help="more crystals, of published.py")
    parser.add_argument("--neighbours", type=int, default=60_000, help="decorated crystals, and as many packed groups")
    parser.add_argument("--mace", action="store_true", help="MACE-MP-0 small alone")
    parser.add_argument("--device", default="cpu", help="where the parent is calibrated")
    chosen = parser.parse_args(argv)
    folder = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    if chosen.mace:
        ep.save(ep.load("mace-mp-small"), folder / "mace-mp-small")
        return
    parent = _models(folder, chosen.device)
    if chosen.data:
        more = published(chosen.published) if chosen.published else []
        structures = list(starting_structures(chosen.data, parent.elements, chosen.neighbours, 0, more))
        write_starting(structures, folder / "starting-structures.npz")


def _models(folder: Path, device: str) -> ep.Potential:
    """The parent, after all models are written; the parent last, by which others see that they are there."""
    parent = ep.load("7net-l3i5", device=device)
    with as_file(files("equiprune.cli") / "demo_data" / "calibration.extxyz.xz") as path:
        scores = ep.calibrate(parent, list(ep.read_structures(path)))
    for name, targets in TARGETS.items():
        ep.save(ep.prune(parent, ep.allocate(parent, targets, scores)), folder / name)
    ep.save(ep.load("7net-0"), folder / "7net-0")
    ep.save(parent, folder / "l3i5")
    return parent


if __name__ == "__main__":
    main()
