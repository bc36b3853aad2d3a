"""eSCN: models of the Open Catalyst project. Upstream: fairchem-core 1.10, e3nn 0.5 and later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ase import Atoms
from torch import Tensor, nn

from equiprune.adapters.base import Checkpoint, ModelAdapter, Taps, Weights
from equiprune.adapters.escn import build, checkpoint_file, export, forward, layouts
from equiprune.adapters.escn.architecture import EscnArchitecture
from equiprune.adapters.growth import Growth, NativeGrids
from equiprune.blocks import FeatureSpace, PruningPlan, WeightLayout
from equiprune.structures.graph import AtomicGraph


class EscnAdapter(ModelAdapter):
    """See the modules beside this one; `upstream` is where fairchem is imported, `forward` what a model computes."""

    name = "escn"
    architecture_type = EscnArchitecture
    suffixes = (".pt",)
    looks_for = "'state_dict' beside a 'config' whose model is escn (eSCN)"
    direct_forces = True

    def recognises(self, path: Path) -> bool:
        return checkpoint_file.recognised(path)

    def read(self, source: str | Path, *, trust: bool = False) -> Checkpoint:
        return checkpoint_file.read(source, trust=trust)

    def build(self, architecture: EscnArchitecture, dtype: torch.dtype) -> nn.Module:
        return build.build(architecture, dtype)

    def feature_spaces(self, architecture: EscnArchitecture) -> tuple[FeatureSpace, ...]:
        return layouts.feature_spaces(architecture)

    def weight_layouts(self, architecture: EscnArchitecture) -> Mapping[str, WeightLayout]:
        return layouts.weight_layouts(architecture)

    def shrink(self, architecture: EscnArchitecture, plan: PruningPlan) -> EscnArchitecture:
        return layouts.shrink(architecture, plan)

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

    def why_not_exported(self, architecture: EscnArchitecture) -> str:
        remedy = "Prune with --native-grids, which is no longer exact but opens in fairchem"
        return f"{architecture.why_not_stock}. {remedy}" if architecture.why_not_stock else ""

    def export(self, checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
        return export.write(checkpoint, path)

    def stock_energies(self, path: Path, structures: Sequence[Atoms], head: str | None) -> list[float]:
        return export.stock_energies(path, structures)
