"""Matrix products of rounded factors: what TF32, BF16 and FP16 would do to energies and forces, on any machine.

``python benchmarks/rounded_products.py 7net-0 7net-compact``, in the environment of the models. Factors of every matrix
product, forward and backward, are rounded as tensor cores of a GPU round them, and products are added up in float32.
Nothing becomes faster by that. Differences from the same model in float64 on a few frames of each set of `official.py`:
errors of the rounding, not of the model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from ase import Atoms
from official import SETS, frames_of, markdown
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import equiprune as ep

_PRODUCTS = {torch.ops.aten.mm: 0, torch.ops.aten.bmm: 0, torch.ops.aten.addmm: 1, torch.ops.aten.baddbmm: 1}
"""Matrix products, and the place of the first factor among the arguments."""
_DROPPED = 13
"""Bits of a float32 that TF32 has not."""

Rounding = Callable[[Tensor], Tensor]


def tf32(numbers: Tensor) -> Tensor:
    """Numbers (any shape) with 10 bits behind the point, to the nearest, ties to even.

    >>> tf32(torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-10])) - 1
    tensor([0.0000, 0.0020, 0.0010])
    """
    bits = numbers.contiguous().view(torch.int32)
    nearest = bits + (1 << (_DROPPED - 1)) - 1 + ((bits >> _DROPPED) & 1)
    return (nearest & -(1 << _DROPPED)).view(torch.float32)


KINDS: Mapping[str, Rounding | None] = {
    "float32": None,
    "TF32": tf32,
    "FP16": lambda numbers: numbers.half().float(),
    "BF16": lambda numbers: numbers.bfloat16().float(),
}


class RoundedProducts(TorchDispatchMode):
    """A context in which factors of matrix products are rounded; it counts them, so that none is missed unseen."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()
        self.rounding, self.count = rounding, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = list(args)
        if (first := _PRODUCTS.get(func.overloadpacket)) is not None and given[first].dtype == torch.float32:
            given[first : first + 2] = [self.rounding(factor) for factor in given[first : first + 2]]
            self.count += 1
        return func(*given, **(kwargs or {}))


def differences(potential: ep.Potential, frames: Sequence[Atoms], rounding: Rounding | None) -> dict[str, list[float]]:
    """Mean and largest difference from float64: energy in meV/atom, forces in meV/Angstrom."""
    right = potential.with_dtype(torch.float64).predict(frames)
    context: AbstractContextManager[Any] = RoundedProducts(rounding) if rounding else nullcontext()
    with context as counted:
        found = potential.predict(frames)
    if counted is not None and not counted.count:
        raise RuntimeError("No matrix product was seen.")
    pairs = list(zip(found, right, strict=True))
    energy = [1e3 * abs(float(own.energy - of.energy)) / len(own.forces) for own, of in pairs]
    forces = 1e3 * torch.cat([(own.forces.double() - of.forces).abs().flatten() for own, of in pairs])
    return {"energy": [float(np.mean(energy)), max(energy)], "forces": [float(forces.mean()), float(forces.max())]}


def rows(models: Sequence[str], frames: Mapping[str, Sequence[Atoms]]) -> Iterator[list[str]]:
    """Rows of each model, set and rounding."""
    for model in models:
        potential = ep.load(model, dtype=torch.float32)
        for name, structures in frames.items():
            for kind, rounding in KINDS.items():
                found = differences(potential, structures, rounding)
                yield [model, name, kind, *(f"{mean:.2g} ({most:.2g})" for mean, most in found.values())]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sets", nargs="+", default=["Cu", "Si", "Li-Ge-P-S", "MPtrj"], choices=SETS)
    parser.add_argument("--frames", type=int, default=5, help="at most, of each set, evenly spaced")
    parser.add_argument("--mptrj-atoms", type=int, default=30, help="largest MPtrj frame")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    frames = {name: frames_of(name, chosen.frames, chosen.mptrj_atoms) for name in chosen.sets}
    heads = ["model", "set", "factors", "energy, meV/atom (largest)", "forces, meV/Angstrom (largest)"]
    print(markdown(heads, list(rows(chosen.models, frames))))


if __name__ == "__main__":
    main()
