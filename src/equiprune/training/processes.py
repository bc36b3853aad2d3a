"""Several processes that train as one: sums over all of them, and errors that end all of them.

A process that raises an error on its own leaves the others waiting for it. What can fail in one process is therefore
done `Processes.together`: before anybody goes on, all learn whether it went well everywhere. One process alone asks
nobody, and pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import torch

from equiprune.errors import EquipruneError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class ElsewhereError(EquipruneError):
    """Another process found an error, and says which."""


class Processes:
    """The processes of a run, of which this is one. All call the same methods in the same order."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric, self._ending = fabric, False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.fabric.is_global_zero

    @property
    def count(self) -> int:
        """How many there are."""
        return self.fabric.world_size

    def totals(self, counts: Sequence[int], error: Exception | None = None) -> list[int]:
        """Sums over all processes, unless one has an error: that one raises it, the others `ElsewhereError`."""
        *found, failed = self._added_up([*map(int, counts), int(error is not None)])
        if failed:
            elsewhere = ElsewhereError("Another process found an error; see its message. This one ends with it.")
            self.end(error or elsewhere)
        return found

    def _added_up(self, counts: list[int]) -> list[int]:
        if self.count == 1:
            return counts
        sums = torch.tensor(counts, device=self.fabric.device)
        self.fabric.all_reduce(sums, reduce_op="sum")  # in place
        return sums.tolist()

    def end(self, error: Exception) -> NoReturn:
        """Raise an error in the knowledge that every process does."""
        self._ending = True
        raise error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Go on only when all processes got to the end; nothing in between may wait for another process."""
        if self.count == 1:
            yield
            return
        found = None
        try:
            yield
        except Exception as error:
            found = error
        self.totals([], found)

    def added(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes in float64, one after another, so that every process has the same bits."""
        if self.count == 1:
            return list(values)
        shares = self.fabric.all_gather(torch.tensor(values, dtype=torch.float64, device=self.fabric.device))
        return [sum(column) for column in zip(*shares.tolist(), strict=True)]

    @contextmanager
    def leaving_together(self) -> Iterator[None]:
        """When all end with an error, wait until all have tidied up: Lightning kills the first soon after others."""
        try:
            yield
        except Exception:
            if self._ending:
                self.fabric.barrier()
            raise
