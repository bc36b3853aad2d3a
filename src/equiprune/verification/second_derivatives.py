"""Second derivatives and their derivatives in the weights against finite differences: what Hessian distillation needs.

An adapter that gives energies and their first derivatives right may still stop there: a kernel without a second
derivative, or an upstream routine that detaches, leaves a Hessian without its contribution, and training follows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from equiprune.potentials.hessian import RandomProbes, hessian_vector_products
from equiprune.potentials.potential import Potential

HESSIAN_LIMITS = {
    "hessian.finite_difference": 1e-6,
    "hessian.symmetry": 1e-9,
    "hessian.translation": 1e-9,
    "hessian.weights": 1e-6,
}
"""Largest value that passes; relative where products, or their derivatives, exceed 1 eV/Angstrom^2."""

_STENCIL = {-2: 1, -1: -8, 1: 8, 2: -1}
"""Multiples of the step, and 12 times their weights in a first derivative of fourth order."""


def second_derivatives(potential: Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """Largest violations of what a Hessian H is, in float64, with two random vectors u and v per structure.

    ``finite_difference``: H v against differences of the forces. ``symmetry``: u H v = v H u. ``translation``: the sum
    of H v over atoms is zero. ``weights``: the derivative of u H v in the weights against differences.
    """
    potential = potential.with_dtype(torch.float64)
    vectors = [RandomProbes(2, seed=7).draw(len(atoms), i) for i, atoms in enumerate(structures)]
    found = dict.fromkeys(HESSIAN_LIMITS, 0.0)
    for atoms, pair, both in zip(
        structures, vectors, hessian_vector_products(potential, structures, vectors), strict=True
    ):
        (u, v), (hu, hv) = pair, both
        size = max(1.0, abs(hv).max())
        worst = {
            "hessian.finite_difference": abs(hv + _slope_of_forces(potential, atoms, v)).max() / size,
            "hessian.symmetry": abs((u * hv).sum() - (v * hu).sum()) / size,
            "hessian.translation": abs(hv.sum(axis=0)).max() / size,
            "hessian.weights": _in_weights(potential, atoms, u, v),
        }
        found = {name: float(np.maximum(value, worst[name])) for name, value in found.items()}  # NaN stays
    return found


def assert_second_derivatives(
    potential: Potential, structures: Sequence[Atoms], law: str = "second derivatives are wrong"
) -> None:
    """The Hessian is that of the forces, and can be trained on.

    Raises:
        AssertionError: a value beyond `HESSIAN_LIMITS`.
    """
    values = second_derivatives(potential, structures)
    beyond = {name: value for name, value in values.items() if not value <= HESSIAN_LIMITS[name]}
    assert not beyond, f"{law}: {potential.checkpoint.source}: {beyond} beyond the limits {HESSIAN_LIMITS}"


def _slope_of_forces(potential: Potential, atoms: Atoms, direction: np.ndarray, step: float = 5e-4) -> np.ndarray:
    moved = [atoms.copy() for _ in _STENCIL]
    for copy, multiple in zip(moved, _STENCIL, strict=True):
        copy.positions += multiple * step * direction
    forces = [prediction.forces.cpu().numpy() for prediction in potential.predict(moved)]
    return np.tensordot(list(_STENCIL.values()), np.stack(forces), 1) / (12 * step)


def _in_weights(potential: Potential, atoms: Atoms, u: np.ndarray, v: np.ndarray, step: float = 3e-4) -> float:
    """The derivative of u H v along a random direction in the trained weights, by backward pass and by difference."""
    state = (potential.adapter, potential.checkpoint, torch.float64, potential.head, potential.device)
    own = Potential.create(*state, for_training=True)
    predictor, graph = own.for_training().train(), own.graph([atoms])
    left, right = torch.as_tensor(u, device=own.device), torch.as_tensor(v, device=own.device)[None]
    weights = [weight for weight in own.module.parameters() if weight.requires_grad]
    generator = torch.Generator().manual_seed(0)
    start = [weight.detach().clone() for weight in weights]
    direction = [w * torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w.device) for w in start]

    def value() -> Tensor:
        return (left * predictor(graph, right)["hessian"]).sum()

    gradient = torch.autograd.grad(value(), weights, allow_unused=True, materialize_grads=True)
    slope = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
    predictor.eval()
    difference = 0.0
    for multiple, factor in _STENCIL.items():
        with torch.no_grad():
            for weight, begin, along in zip(weights, start, direction, strict=True):
                weight.copy_(begin + multiple * step * along)
        difference += factor * float(value().detach()) / (12 * step)
    return abs(slope - difference) / max(1.0, abs(difference))
