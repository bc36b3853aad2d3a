"""Speed and memory of MACE: MACE-MP-0 small, its children, and random models of L = 0, 1, 2 at official size.

``python -m benchmarks.gpu.mace --model mace-mp-small --device cuda -o mace.json``, in an environment with MACE; in
another it says so and ends. Energy, forces and stress of one crystal by e3nn, models taking turns; speed depends on
shapes, so that random weights do. What does not fit into memory, or is not here, is a row that says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from ase import Atoms

import equiprune as ep
from benchmarks.gpu.speed import crystal
from benchmarks.gpu.stage import Record, parsed
from benchmarks.mace_speed import REAL, cut, random_mp
from equiprune.evaluation.benchmark import timed
from equiprune.potentials.out_of_memory import is_out_of_memory

_ABSENT = "MACE is not in this environment, so nothing was timed. It needs one of its own, since its e3nn is another."
_RANDOM = "random"


def main(argv: Sequence[str] | None = None) -> None:
    """Time all models at every size in every precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=REAL, help=f"MACE-MP-0 small, or '{_RANDOM}' for a model like it")
    parser.add_argument("--channels", type=int, default=128, help="of random models; half as many of the child")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 512, 4096], help="atoms")
    parser.add_argument("--repeats", type=int, default=5, help="timed evaluations")
    small = {"model": _RANDOM, "channels": 4, "dtypes": ["float32"], "sizes": [8], "repeats": 1}
    chosen = parsed(parser, argv, small)
    record = Record("mace", chosen.device, chosen.output)
    if find_spec("mace") is None:
        record.add({"skipped": _ABSENT})
        return
    for dtype in chosen.dtypes:
        models = _models(chosen, getattr(torch, dtype), record)
        for size in chosen.sizes:
            for row in _size(models, crystal(size), chosen.repeats):
                record.add(row)


def _models(chosen: argparse.Namespace, dtype: torch.dtype, record: Record) -> dict[str, ep.Potential]:
    """Those that can be made here, by what they are."""
    random = partial(random_mp, dtype=dtype, device=chosen.device, channels=chosen.channels)

    def parent() -> ep.Potential:
        return random(0) if chosen.model == _RANDOM else ep.load(chosen.model, dtype=dtype, device=chosen.device)

    real, half = chosen.model != _RANDOM, chosen.channels // 2
    name = "MACE-MP-0 small" if real else "random parent"
    lossless = {f"{name}, lossless": lambda: cut(parent(), [ep.Lossless()], round_to=16)}
    makers: Mapping[str, Callable[[], ep.Potential]] = {
        name: parent,
        f"{name}, {half} channels": lambda: cut(parent(), [ep.Channels(half)]),
        **(lossless if real else {}),
        **{f"L={l}, {chosen.channels} channels, random weights": partial(random, l) for l in (0, 1, 2)},
    }
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except Exception as error:  # the others are still worth timing
            record.add({"model": name, "failed": repr(error)[:300]})
    return made


def _size(models: Mapping[str, ep.Potential], atoms: Atoms, repeats: int) -> list[dict[str, Any]]:
    fitting = {name: model for name, model in models.items() if fits(model, atoms)}
    found = timed({(name, "e3nn"): model for name, model in fitting.items()}, atoms, repeats=repeats)
    rows = [{"engine": "e3nn", **timing.to_json()} for timing in found]
    left = models.keys() - fitting.keys()
    return rows + [{"model": name, "atoms": len(atoms), "failed": "out of memory"} for name in sorted(left)]


def fits(model: ep.Potential, atoms: Atoms) -> bool:
    """True unless memory is out."""
    try:
        model.differentiate(model.graph([atoms]))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    else:
        fits = True
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return fits


if __name__ == "__main__":
    main()
