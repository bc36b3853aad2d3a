"""Do several processes compute the gradient that one would? Asked once, before anything is trained.

Forces make the gradient a second derivative and Hessians a third, for which distributed data parallel makes no promise:
with ``static_graph`` SevenNet's gradients came out wrong by two thirds, silently, and with ``find_unused_parameters``
not at all (pytorch/pytorch#47562).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from equiprune.errors import EquipruneError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Of the norm of the gradient: rounding of sums in another order, at least."""


class ParityError(EquipruneError):
    """Several processes do not compute the gradient that one would."""


def check_parity(
    fabric: Fabric,
    shared: nn.Module,
    own: nn.Module,
    inputs: Sequence[Any],
    loss: Callable[[Mapping[str, Tensor]], Tensor],
) -> None:
    """Raise `ParityError` unless the gradient through ``shared`` is the mean of those that processes find alone.

    Args:
        fabric: the processes.
        shared: the module as it is trained, whose backward pass averages gradients over processes.
        own: the same module, and weights, without that.
        inputs: what both are called with for this process's first batch.
        loss: of predictions for it; a process's own share, so that the mean over processes is that of all batches.
    """
    for module in shared.modules():
        if isinstance(module, DistributedDataParallel) and (module.static_graph or module.find_unused_parameters):
            raise ParityError("static_graph and find_unused_parameters give wrong gradients here. Leave them out.")
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
        raise ParityError(
            f"The gradient of {fabric.world_size} processes differs from the mean of their own gradients by "
            f"{difference / size:.1e} of its size. Training would go wrong: use one process, and please report this."
        )
