"""eSCN obeys the contract: random models of several shapes to which every layer contributes."""

from collections.abc import Sequence

from random_escn import random_checkpoint, small

from equiprune import Checkpoint
from equiprune.adapters.escn import EscnAdapter
from equiprune.testing import AdapterContract


class TestEscnContract(AdapterContract):
    adapter = EscnAdapter()
    repeated = ("node_feats", "messages", "hidden", "pointwise", "energy", "force")
    # The features of the first layer have l = 0 only, so what it mixes at higher orders are zeros.
    idle = ("hidden.0.source.m1", "hidden.0.source.m2", "hidden.0.target.m1", "hidden.0.target.m2")

    def checkpoints(self) -> Sequence[Checkpoint]:
        return [random_checkpoint(small()), random_checkpoint(small(lmax=2, layers=2, hidden=5), seed=1)]
