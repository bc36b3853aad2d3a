"""The laws of the core on small random Nequix models of every kind."""

from collections.abc import Iterator, Sequence
from functools import cache

import pytest
from plain_code import code_for
from random_nequix import KINDS, random_checkpoint

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.nequix import NequixAdapter
from equiprune.testing import AdapterContract

PARENTS: dict[tuple[str, str], ep.Potential] = {}
"""By kind of model and of code; built once, since no law changes them."""


@pytest.fixture(params=KINDS, scope="class")
def kind(request: pytest.FixtureRequest) -> None:
    """Each law on each kind of model."""
    request.cls.kind = request.param


@pytest.fixture(autouse=True)
def code(request: pytest.FixtureRequest) -> Iterator[None]:
    """Stock code only where it matters, since it takes long to build."""
    with code_for(request.function) as TestNequix.code:
        yield


@pytest.mark.usefixtures("kind")
class TestNequix(AdapterContract):
    adapter = NequixAdapter()
    plans = 2
    kind = ""
    code = "stock"

    def checkpoints(self) -> Sequence[Checkpoint]:
        return [_checkpoint(self.kind)]

    def potentials(self) -> Iterator[ep.Potential]:
        made = (self.kind, self.code)
        if made not in PARENTS:
            [PARENTS[made]] = super().potentials()
        yield PARENTS[made]


@cache
def _checkpoint(kind: str) -> Checkpoint:
    return random_checkpoint(KINDS[kind])
