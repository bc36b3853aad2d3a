"""The toy adapter obeys the contract, small and large."""

from collections.abc import Sequence

from equiprune import Checkpoint
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.testing import AdapterContract

SMALL = ToyArchitecture(elements=(1, 6, 8, 14), cutoff=4.0)
LARGE = ToyArchitecture(
    elements=(8, 1, 14),
    cutoff=3.5,
    hidden_irreps=("7x0e", "6x0e+4x1o", "5x0e+3x1o", "4x0e"),
    radial_basis=5,
    radial_width=6,
)


class TestToyContract(AdapterContract):
    adapter = ToyAdapter()

    def checkpoints(self) -> Sequence[Checkpoint]:
        return [ToyAdapter().random_checkpoint(SMALL), ToyAdapter().random_checkpoint(LARGE, seed=1)]
