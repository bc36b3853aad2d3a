"""What changes while training: all that a run needs, besides module and optimizer, to go on where it was."""

from __future__ import annotations

from dataclasses import dataclass, field

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
