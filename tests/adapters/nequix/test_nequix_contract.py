"""The laws of the core on small random Nequix models of every kind."""

import pytest
from contract_of_kinds import ContractOfKinds
from random_nequix import KINDS, random_checkpoint

from equiprune.adapters.nequix import NequixAdapter


@pytest.fixture(params=KINDS, scope="class", autouse=True)
def kind(request: pytest.FixtureRequest) -> None:
    """Each law on each kind of model."""
    request.cls.kind = request.param


@pytest.mark.supports("Nequix (random weights)", "exact")
class TestNequix(ContractOfKinds):
    adapter = NequixAdapter()
    kinds = KINDS
    random_checkpoint = staticmethod(random_checkpoint)
    plans = 2
