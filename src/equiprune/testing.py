"""The laws that every adapter obeys, for the tests of third parties: see `equiprune.verification.contract`."""

from equiprune.verification.contract import (
    AdapterContract,
    assert_equivariant,
    assert_forces_are_gradients,
    assert_same_predictions,
)
from equiprune.verification.random_plans import PRUNABLE, random_plan
from equiprune.verification.second_derivatives import assert_second_derivatives

__all__ = [
    "PRUNABLE",
    "AdapterContract",
    "assert_equivariant",
    "assert_forces_are_gradients",
    "assert_same_predictions",
    "assert_second_derivatives",
    "random_plan",
]
