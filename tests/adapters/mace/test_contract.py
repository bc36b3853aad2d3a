"""The laws of the core on small random MACE models of every kind."""

from collections.abc import Sequence
from functools import cache

import pytest
from random_mace import KINDS, random_checkpoint

from equiprune.adapters import Checkpoint
from equiprune.adapters.growth import GrowRadialBasis, Growth
from equiprune.adapters.mace import MaceAdapter
from equiprune.potentials.potential import Potential
from equiprune.testing import AdapterContract


@pytest.fixture(params=KINDS, autouse=True, scope="class")
def kind(request: pytest.FixtureRequest) -> None:
    """Each law on each kind of model."""
    if request.cls is TestMace:
        TestMace.kind = request.param


class TestMace(AdapterContract):
    adapter = MaceAdapter()
    plans = 1
    kind = ""

    def checkpoints(self) -> Sequence[Checkpoint]:
        return [_checkpoint(self.kind)]

    def growths(self, potential: Potential) -> Sequence[Growth]:
        return [GrowRadialBasis(potential.architecture.radial_basis + 2)]


@cache
def _checkpoint(kind: str) -> Checkpoint:
    return random_checkpoint(KINDS[kind])
