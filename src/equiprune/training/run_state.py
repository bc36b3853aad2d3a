"""What changes while training: all that a run needs, besides module and optimizer, to go on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class RunState:
    """Where a run is. ``average`` and ``best`` are weights by name."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    """Batches of the epoch that are done."""
    validations: list[float] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    recorded: int = 0
    """Bytes of the learning curve up to here."""

    @property
    def waited(self) -> int:
        """Validations since the best one."""
        return len(self.validations) - 1 - self.validations.index(min(self.validations)) if self.validations else 0

    def on(self, device: torch.device) -> RunState:
        """The same state with its weights on a device."""
        return replace(self, average=_moved(self.average, device), best=_moved(self.best, device))


def _moved(weights: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: weight.to(device) for name, weight in weights.items()}
