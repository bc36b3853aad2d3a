"""TF32 and BF16 beside float32: speed, and errors against the same model in float64.

``python -m benchmarks.gpu.precision l3i5=PATH compact=PATH --device cuda -o precision.json``. The comparison is that of
``equiprune benchmark --precision``, on the crystals of the demo; the time is that of one crystal, in turns with
float64. ``speed_of_float32`` is the speed over that in float32. TF32 and BF16 are arithmetic of CUDA GPUs, and refused
elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.resources import as_file, files
from itertools import islice
from typing import Any

from ase import Atoms

import equiprune as ep
from benchmarks.gpu.speed import crystal
from benchmarks.gpu.stage import Record, parsed
from equiprune.evaluation.engines import OWN
from equiprune.evaluation.precisions import PRECISIONS, Precision, precision_errors


def main(argv: Sequence[str] | None = None) -> None:
    """Compare every model in every precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="NAME=PATH")
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--structures", type=int, default=100, help="crystals that errors are of")
    parser.add_argument("--atoms", type=int, default=2048, help="of the crystal that is timed")
    parser.add_argument("--repeats", type=int, default=5, help="timed evaluations")
    chosen = parsed(parser, argv, {"structures": 2, "atoms": 8, "repeats": 1})
    record, structures = Record("precision", chosen.device, chosen.output), _crystals(chosen.structures)
    for name, path in (entry.split("=", 1) for entry in chosen.models):
        potential, usual = ep.load(path, device=chosen.device), None
        for precision in chosen.precisions:
            found = _errors(potential, PRECISIONS[precision], structures, chosen)
            usual = found.get("speed") if precision == "float32" else usual
            ratio = {"speed_of_float32": found["speed"] / usual} if usual and "speed" in found else {}
            record.add({"model": name, "precision": precision, **found, **ratio})


def _crystals(count: int) -> list[Atoms]:
    with as_file(files("equiprune.cli") / "demo_data" / "calibration.extxyz.xz") as path:
        return list(islice(ep.read_structures(path), count))


def _errors(
    potential: ep.Potential, precision: Precision, structures: Sequence[Atoms], chosen: argparse.Namespace
) -> dict[str, Any]:
    timed = [crystal(chosen.atoms)]
    how = {"engines": [OWN], "repeats": chosen.repeats}
    try:
        [found] = precision_errors({"": potential}, structures, [precision], timed, **how)
    except Exception as error:  # the other precisions are still worth measuring
        return {"failed": str(error)[:300]}
    own = {name: value for name, value in found.to_json().items() if name not in ("model", "precision")}
    return {"atoms": len(timed[0]), **own}


if __name__ == "__main__":
    main()
