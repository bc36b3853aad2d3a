"""What a backward pass consists of, and that the one of training is the plain one for less."""

from collections.abc import Sequence

import torch
from ase import Atoms
from torch import Tensor

import equiprune as ep


def steps(*tensors: Tensor) -> list[str]:
    """Names of all steps of the backward pass of these tensors."""
    todo, seen = [tensor.grad_fn for tensor in tensors], set()
    while todo:
        step = todo.pop()
        if step is not None and step not in seen:
            seen.add(step)
            todo += [following for following, _ in step.next_functions]
    return [step.name() for step in seen]


def assert_quicker_and_the_same(model: ep.Potential, structures: Sequence[Atoms]) -> None:
    """Built for training, a model has the same forces and gradients to the bit, from a backward pass without slices."""
    own = (model.adapter, model.checkpoint, model.dtype, model.head)
    plain, quicker = (_learning(one, structures) for one in (model, ep.Potential.create(*own, for_training=True)))
    assert len(plain[0]) == len(quicker[0]) > 5
    for expected, found in zip(plain[0], quicker[0], strict=True):
        assert torch.equal(expected, found)
    assert plain[1].count("SliceBackward0") > 20
    assert quicker[1].count("SliceBackward0") < plain[1].count("SliceBackward0") / 4


def _learning(model: ep.Potential, structures: Sequence[Atoms]) -> tuple[list[Tensor], list[str]]:
    """Forces, the gradient of their squares in every weight, and the steps of that backward pass."""
    forces = model.for_training().train()(model.graph(structures), torch.zeros(0))["forces"]
    weights = [weight for weight in model.module.parameters() if weight.requires_grad]
    loss = forces.square().sum()
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True, retain_graph=True)
    return [forces.detach(), *gradients], steps(loss)
