"""The laws of the core on small random MACE models of every kind."""

from collections.abc import Sequence

import pytest
from contract_of_kinds import ContractOfKinds
from random_mace import KINDS, random_checkpoint

from equiprune.adapters.growth import GrowRadialBasis, Growth
from equiprune.adapters.mace import MaceAdapter
from equiprune.potentials.potential import Potential


@pytest.fixture(params=KINDS, autouse=True, scope="class")
def kind(request: pytest.FixtureRequest) -> None:
    """Each law on each kind of model."""
    if request.cls is TestMace:
        TestMace.kind = request.param


class TestMace(ContractOfKinds):
    adapter = MaceAdapter()
    kinds = KINDS
    random_checkpoint = staticmethod(random_checkpoint)
    plans = 1

    def growths(self, potential: Potential) -> Sequence[Growth]:
        return [GrowRadialBasis(potential.architecture.radial_basis + 2)]
