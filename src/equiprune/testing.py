"""Checks that every adapter passes: equiprune's own, and those of third parties.

Subclass `AdapterContract` in a test module, and pytest runs the laws of the core on your architecture::

    class TestMyAdapter(AdapterContract):
        adapter = MyAdapter()

        def checkpoints(self) -> Sequence[Checkpoint]:
            return [self.adapter.read("my-small-model")]

Give checkpoints to which every interaction contributes; the contract checks that they do, since agreement of models
that hardly use their features means nothing. The adapter must be installed with its entry point. The laws are in
`equiprune.verification.laws`, by what they are about.
"""

from equiprune.verification.laws.agreement import (
    assert_equivariant,
    assert_forces_are_gradients,
    assert_same_predictions,
)
from equiprune.verification.laws.declarations import DeclarationLaws
from equiprune.verification.laws.files import FileLaws
from equiprune.verification.laws.physics import PhysicsLaws
from equiprune.verification.laws.pruning import PruningLaws
from equiprune.verification.laws.scores import ScoreLaws
from equiprune.verification.laws.training import TrainingLaws
from equiprune.verification.random_plans import random_plan, shuffled_plan

__all__ = [
    "AdapterContract",
    "assert_equivariant",
    "assert_forces_are_gradients",
    "assert_same_predictions",
    "random_plan",
    "shuffled_plan",
]


class AdapterContract(DeclarationLaws, PruningLaws, ScoreLaws, PhysicsLaws, TrainingLaws, FileLaws):
    """The laws every adapter obeys, as a test class to inherit from (`equiprune.verification.laws.contract`).

    Give an ``adapter`` and its ``checkpoints``; further attributes say what the adapter does not claim, and ``growths``
    which changes leave the function as it is.
    """
