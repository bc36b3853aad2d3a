"""Cost of a plan, counted on layouts without building a model."""

from dataclasses import dataclass
from typing import Any

from equiprune.adapters import ModelAdapter
from equiprune.blocks import PruningPlan


@dataclass(frozen=True)
class ParameterCount:
    """Numbers stored in a model: all of them, and those upstream trains."""

    all: int
    trainable: int


def count_parameters(adapter: ModelAdapter, architecture: Any) -> ParameterCount:
    """Exactly ``sum(p.numel())`` of the module the adapter would build."""
    layouts = [layout for layout in adapter.layouts(architecture).values() if not layout.buffer]
    return ParameterCount(
        sum(layout.numel for layout in layouts), sum(layout.numel for layout in layouts if layout.trainable)
    )


def parameters(adapter: ModelAdapter, architecture: Any, plan: PruningPlan) -> ParameterCount:
    """Parameters left by a plan."""
    return count_parameters(adapter, adapter.shrink(architecture, plan))
