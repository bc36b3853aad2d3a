"""eSCN: models of the Open Catalyst project. Upstream: fairchem-core 1.10, e3nn 0.5 and later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from equiprune.adapters.base import Checkpoint, ModelAdapter, Taps, Weights
from equiprune.adapters.escn import forward, layouts, modules
from equiprune.adapters.escn.architecture import EscnArchitecture
from equiprune.adapters.escn.shrinking import shrink
from equiprune.adapters.graph import AtomicGraph
from equiprune.adapters.growth import Growth, NativeGrids
from equiprune.blocks import FeatureSpace, PruningPlan, WeightLayout
from equiprune.errors import CheckpointError


class EscnAdapter(ModelAdapter):
    """See the modules beside this one: architecture, layouts, shrinking, upstream, modules, frames, forward."""

    name = "escn"
    architecture_type = EscnArchitecture
    suffixes = (".pt",)
    direct_forces = True

    def read(self, source: str | Path, *, trust: bool = False) -> Checkpoint:
        raise CheckpointError(f"'{source}' is not a model that this version reads.")

    def build(self, architecture: EscnArchitecture, dtype: torch.dtype) -> nn.Module:
        return modules.build(architecture, dtype)

    def feature_spaces(self, architecture: EscnArchitecture) -> tuple[FeatureSpace, ...]:
        return layouts.feature_spaces(architecture)

    def weight_layouts(self, architecture: EscnArchitecture) -> Mapping[str, WeightLayout]:
        return layouts.weight_layouts(architecture)

    def shrink(self, architecture: EscnArchitecture, plan: PruningPlan) -> EscnArchitecture:
        return shrink(architecture, plan)

    def grow(
        self, architecture: EscnArchitecture, weights: Weights, growth: Growth
    ) -> tuple[EscnArchitecture, Weights]:
        if not isinstance(growth, NativeGrids):
            return super().grow(architecture, weights, growth)
        message_grid, node_grid = architecture.native_grids
        return replace(architecture, message_grid=message_grid, node_grid=node_grid), weights

    def energies(
        self, module: nn.Module, architecture: EscnArchitecture, graph: AtomicGraph, head: str | None, taps: Taps
    ) -> Tensor:
        return self.energies_and_forces(module, architecture, graph, head, taps)[0]

    def energies_and_forces(
        self, module: nn.Module, architecture: EscnArchitecture, graph: AtomicGraph, head: str | None, taps: Taps
    ) -> tuple[Tensor, Tensor]:
        return forward.energies_and_forces(module, architecture, graph, taps)
