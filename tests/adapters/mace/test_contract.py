"""The laws of the core on small random MACE models of every kind."""

from collections.abc import Iterator, Sequence
from functools import cache

import pytest
from plain_code import code_for
from random_mace import KINDS, random_checkpoint

from equiprune.adapters import Checkpoint
from equiprune.adapters.growth import GrowRadialBasis, Growth
from equiprune.adapters.mace import MaceAdapter
from equiprune.potentials.potential import Potential
from equiprune.testing import AdapterContract

PARENTS: dict[tuple[str, str], Potential] = {}
"""By kind of model and of code; built once, since no law changes them."""


@pytest.fixture(params=KINDS, autouse=True, scope="class")
def kind(request: pytest.FixtureRequest) -> None:
    """Each law on each kind of model."""
    if request.cls is TestMace:
        TestMace.kind = request.param


@pytest.fixture(autouse=True)
def code(request: pytest.FixtureRequest) -> Iterator[None]:
    """Stock code only where it matters, since it takes seconds to compile."""
    with code_for(request.function) as TestMace.code:
        yield


class TestMace(AdapterContract):
    adapter = MaceAdapter()
    plans = 1
    kind = ""
    code = "stock"

    def checkpoints(self) -> Sequence[Checkpoint]:
        return [_checkpoint(self.kind)]

    def potentials(self) -> Iterator[Potential]:
        made = (self.kind, self.code)
        if made not in PARENTS:
            [PARENTS[made]] = super().potentials()
        yield PARENTS[made]

    def growths(self, potential: Potential) -> Sequence[Growth]:
        return [GrowRadialBasis(potential.architecture.radial_basis + 2)]


@cache
def _checkpoint(kind: str) -> Checkpoint:
    return random_checkpoint(KINDS[kind])
