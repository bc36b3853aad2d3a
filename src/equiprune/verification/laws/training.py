"""Laws of modules that are built for evaluation or training: the same function as the module that upstream builds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters.capabilities import BuildsForEvaluation
from equiprune.potentials.potential import Potential
from equiprune.verification.laws.agreement import assert_same_predictions
from equiprune.verification.laws.contract import Contract


class TrainingLaws(Contract):
    """Modules that are built for a purpose."""

    def test_what_is_built_for_evaluation_is_the_same_function(self) -> None:
        """Its energies, forces and stress."""
        for potential in self.potentials():
            if isinstance(self.adapter, BuildsForEvaluation):
                law = "what is built for evaluation predicts something else"
                structures = self.structures(potential.elements)
                assert_same_predictions(potential.as_upstream(), potential, structures, law=law)

    def test_what_is_built_for_training_is_the_same_function(self) -> None:
        """Its energies and forces, and the gradient of a loss of both in every weight."""
        for potential in map(Potential.as_upstream, self.potentials()):
            own = (self.adapter, potential.checkpoint, potential.dtype, potential.head)
            arranged = Potential.create(*own, for_training=True)
            structures = self.structures(potential.elements)
            law = "what is built for training predicts something else"
            assert_same_predictions(potential, arranged, structures, law=law)
            found, expected = (_taught(one, structures) for one in (arranged, potential))
            assert found.keys() == expected.keys(), f"other weights learn: {found.keys() ^ expected.keys()}"
            size = max(gradient.norm() for gradient in expected.values())
            for name, gradient in expected.items():
                apart = float((found[name] - gradient).norm() / size)
                assert apart <= 1e-12, f"a weight learns something else: {name}, by {apart} of the gradient"


def _taught(potential: Potential, structures: Sequence[Atoms]) -> dict[str, Tensor]:
    """The gradient of the squares of energies and forces in the weights."""
    graph = potential.graph(structures)
    predicted = potential.for_training().train()(graph, graph.positions.new_empty(0, *graph.positions.shape))
    loss = predicted["energy"].square().sum() + predicted["forces"].square().sum()
    weights = {name: weight for name, weight in potential.module.named_parameters() if weight.requires_grad}
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(weights, gradients, strict=True))
