"""Gradients that all weights of a model get from a loss, to compare two codes that evaluate the same model."""

from collections.abc import Sequence

import torch
from ase import Atoms
from torch import Tensor

import equiprune as ep


def taught(potential: ep.Potential, structures: Sequence[Atoms]) -> dict[str, Tensor]:
    """The gradient of a loss of energies, forces, stress and products of the Hessian in every weight."""
    graph = potential.graph(structures)
    vectors = torch.ones(1, *graph.positions.shape, dtype=torch.float64).cumsum(1)
    vectors = vectors[: potential.parameters() < 10_000]  # upstream's code takes long for third derivatives
    predicted = potential.for_training().train()(graph, vectors)
    loss = sum((predicted[name].square().sum() for name in ("forces", "stress", "hessian")), predicted["energy"].sum())
    weights = {name: weight for name, weight in potential.module.named_parameters() if weight.requires_grad}
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(weights, found, strict=True))
