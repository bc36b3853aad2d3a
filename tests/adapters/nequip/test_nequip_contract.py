"""The laws of the core on small random NequIP models of every kind."""

from collections.abc import Iterable

import pytest
from ase import Atoms
from contract_of_kinds import ContractOfKinds
from random_nequip import KINDS, random_checkpoint

from equiprune.adapters.nequip import NequIPAdapter


@pytest.fixture(params=KINDS, scope="class", autouse=True)
def kind(request: pytest.FixtureRequest) -> None:
    """Each law on each kind of model."""
    request.cls.kind = request.param


@pytest.mark.supports("NequIP (random weights)", "exact")
class TestNequIP(ContractOfKinds):
    adapter = NequIPAdapter()
    kinds = KINDS
    random_checkpoint = staticmethod(random_checkpoint)
    plans = 1

    def structures(self, elements: Iterable[int]) -> list[Atoms]:
        """Two of the usual ones, since there are many laws; all where features of odd parity need low symmetry."""
        usual = super().structures(elements)
        return usual if "both parities" in self.kind else usual[:2]
