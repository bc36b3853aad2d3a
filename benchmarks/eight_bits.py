"""Weights of 8 bits, an experiment: are they accurate enough?

``python benchmarks/eight_bits.py``. Weights of linear layers are rounded to integers from -127 to 127 with a scale for
each output channel (and block of irreps), and the model is evaluated in float32 with what they then stand for. Nothing
becomes faster by that: the table says what a kernel for such weights would have to pay for with errors. Errors against
DFT, and differences from the same model in float64, on a few frames of each set of `official.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from ase import Atoms
from e3nn.nn import FullyConnectedNet
from e3nn.o3 import Linear
from official import SETS, frames_of, markdown
from torch import Tensor, nn

from equiprune import Potential, load

LARGEST = 127
Weights = Callable[[nn.Module], Iterator[Tensor]]


def linears(module: nn.Module) -> Iterator[Tensor]:
    """Weights (inputs, outputs) of every block of every equivariant linear layer, as views."""
    for each in module.modules():
        if isinstance(each, Linear) and each.weight_numel:
            yield from each.weight_views()


def radial(module: nn.Module) -> Iterator[Tensor]:
    """Weights (inputs, outputs) of the networks of distances."""
    for each in module.modules():
        if isinstance(each, FullyConnectedNet):
            yield from (layer.weight for layer in each.children())


def linears_and_radial(module: nn.Module) -> Iterator[Tensor]:
    """Both."""
    yield from linears(module)
    yield from radial(module)


KINDS: Mapping[str, Weights] = {"8-bit linears": linears, "8-bit linears and radial networks": linears_and_radial}


def rounded(weights: Tensor) -> Tensor:
    """Weights (inputs, outputs) as 8-bit integers with a scale for each output stand for them."""
    scale = (weights.abs().amax(dim=0, keepdim=True) / LARGEST).clamp(min=torch.finfo(weights.dtype).tiny)
    return (weights / scale).round().clamp(-LARGEST, LARGEST) * scale


def with_eight_bits(model: str, chosen: Weights) -> tuple[Potential, float]:
    """A model in float32 with rounded weights, and the share of its parameters that they are."""
    potential = load(model)
    count = 0
    with torch.no_grad():
        for weights in chosen(potential.module):
            weights.copy_(rounded(weights))
            count += weights.numel()
    return potential, count / potential.parameters()


Values = tuple[np.ndarray, np.ndarray]
"""Energies (frames,) in meV/atom, components of forces in meV/Angstrom."""


def values(potential: Potential, structures: Sequence[Atoms]) -> Values:
    """Predictions of a model."""
    found = potential.predict(structures)
    energies = [p.energy.item() / len(p.forces) for p in found]
    return 1e3 * np.array(energies), 1e3 * np.concatenate([p.forces.numpy().ravel() for p in found])


def labels(structures: Sequence[Atoms]) -> Values:
    """Labels of DFT."""
    energies = [atoms.get_potential_energy() / len(atoms) for atoms in structures]
    return 1e3 * np.array(energies), 1e3 * np.concatenate([atoms.get_forces().ravel() for atoms in structures])


def row(found: Values, truth: Values, dft: Values) -> list[str]:
    """Errors against DFT, and mean and largest differences from float64, of energy and forces."""
    errors = [f"{np.abs(own - label).mean():.2f}" for own, label in zip(found, dft, strict=True)]
    differences = [np.abs(own - exact) for own, exact in zip(found, truth, strict=True)]
    return [*errors, *(f"{each.mean():.2g} ({each.max():.2g})" for each in differences)]


def main() -> None:
    """Print a row for each set, model and kind of weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["7net-0", "7net-compact"])
    parser.add_argument("--sets", nargs="+", default=["Cu", "Si", "Li-Ge-P-S", "MPtrj"], choices=SETS)
    parser.add_argument("--frames", type=int, default=5, help="at most, of each set, evenly spaced")
    parser.add_argument("--mptrj-atoms", type=int, default=30, help="largest MPtrj frame")
    chosen = parser.parse_args()
    rows = []
    for model in chosen.models:
        eight = {kind: with_eight_bits(model, weights) for kind, weights in KINDS.items()}
        shares = {kind: f"{kind} ({100 * share:.0f} % of the parameters)" for kind, (_, share) in eight.items()}
        kinds = {"float32": load(model), **{shares[kind]: potential for kind, (potential, _) in eight.items()}}
        exact = load(model, dtype=torch.float64)
        for name in chosen.sets:
            structures = frames_of(name, chosen.frames, chosen.mptrj_atoms)
            dft, truth = labels(structures), values(exact, structures)
            rows.append([f"{name} ({len(structures)})", model, "float64", *row(truth, truth, dft)])
            rows += [
                [f"{name} ({len(structures)})", model, kind, *row(values(potential, structures), truth, dft)]
                for kind, potential in kinds.items()
            ]
    heads = ["set (frames)", "model", "weights", "energy, DFT", "forces, DFT", "energy, float64", "forces, float64"]
    print("Mean absolute errors and differences (the largest in parentheses), meV/atom and meV/Angstrom.\n")
    print(markdown(heads, rows))


if __name__ == "__main__":
    main()
