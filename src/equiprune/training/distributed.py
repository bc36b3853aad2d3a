"""Several processes that train as one: sums over all of them, and errors that end all of them.

A process that raises an error on its own leaves the others waiting for it. What can fail in one process is therefore
done `Processes.together`: before anybody goes on, all learn whether it went well everywhere. One process alone asks
nobody, and pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from equiprune.errors import EquipruneError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class PeerProcessError(EquipruneError):
    """Another process found an error, and says which."""


class Processes:
    """The processes of a run, of which this is one. All call the same methods in the same order."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric, self._ending = fabric, False

    @property
    def first(self) -> bool:
        """True if this is the one that writes and reports."""
        return self.fabric.is_global_zero

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.fabric.world_size

    def totals(self, counts: Sequence[int], error: Exception | None = None) -> list[int]:
        """Sums over all processes, unless one has an error: that one raises it, the others `PeerProcessError`."""
        *found, failed = self._added_up([*map(int, counts), int(error is not None)])
        if failed:
            elsewhere = PeerProcessError("Another process found an error; see its message. This one ends with it.")
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
    def stopping_with_the_others(self) -> Iterator[None]:
        """Wait, when all end with an error, until all have tidied up: Lightning kills the first soon after others."""
        try:
            yield
        except Exception:
            if self._ending:
                self.fabric.barrier()
            raise


TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Tolerance relative to the norm of the gradient: rounding of sums in another order, at least."""


class GradientMismatchError(EquipruneError):
    """Several processes do not compute the gradient that one would."""


def check_gradients_agree(
    fabric: Fabric,
    shared: nn.Module,
    own: nn.Module,
    inputs: Sequence[Any],
    loss: Callable[[Mapping[str, Tensor]], Tensor],
) -> None:
    """Raise `GradientMismatchError` unless the gradient through ``shared`` is the mean of those of single processes.

    Args:
        fabric: the processes.
        shared: the module as it is trained, whose backward pass averages gradients over processes.
        own: the same module, and weights, without that.
        inputs: what both are called with for this process's first batch.
        loss: of predictions for it; a process's own share, so that the mean over processes is that of all batches.
    """
    for module in shared.modules():
        if isinstance(module, DistributedDataParallel) and (module.static_graph or module.find_unused_parameters):
            raise GradientMismatchError(
                "static_graph and find_unused_parameters give wrong gradients here. Leave them out."
            )
    shared.train()
    weights = [parameter for parameter in own.parameters() if parameter.requires_grad]
    alone = torch.autograd.grad(loss(own(*inputs)), weights, allow_unused=True, materialize_grads=True)
    expected = torch.cat([gradient.flatten() for gradient in alone])
    fabric.all_reduce(expected)  # in place, the mean
    fabric.backward(loss(shared(*inputs)))
    found = torch.cat([torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in weights])
    shared.zero_grad()
    difference, size = (found - expected).norm(), expected.norm()
    wrong = (~(difference <= TOLERANCE[expected.dtype] * size)).long()
    fabric.all_reduce(wrong, reduce_op="sum")  # so that all processes end, not one, and the others wait for it
    if wrong:
        raise GradientMismatchError(
            f"The gradient of {fabric.world_size} processes differs from the mean of their own gradients by "
            f"{difference / size:.1e} of its size. Training would go wrong: use one process, and please report this."
        )
