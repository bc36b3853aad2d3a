"""SevenNet (a NequIP): l3i5, 0, MF-0 and any checkpoint that sevenn loads. Upstream: sevenn 0.13, e3nn 0.5 or later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from ase import Atoms
from torch import Tensor, nn

from equiprune.adapters.base import Checkpoint, ModelAdapter, Taps, Weights
from equiprune.adapters.e3nn.fused_gradients import quicker_gradients
from equiprune.adapters.sevennet import build, checkpoint_file, export, forward, layouts, references, rewrites
from equiprune.adapters.sevennet.architecture import SevenNetArchitecture
from equiprune.blocks import FeatureSpace, PruningPlan, WeightLayout
from equiprune.structures.graph import AtomicGraph


class SevenNetAdapter(ModelAdapter):
    """See the modules beside this one: architecture, layouts, build, checkpoint_file, forward, rewrites,
    references, export."""

    name = "sevennet"
    architecture_type = SevenNetArchitecture
    suffixes = (".pth",)
    looks_for = "'model_state_dict' beside a 'config' with chemical species (SevenNet)"

    def aliases(self) -> Mapping[str, str]:
        return checkpoint_file.ALIASES

    def recognises(self, path: Path) -> bool:
        return checkpoint_file.recognised(path)

    def read(self, source: str | Path, *, trust: bool = False) -> Checkpoint:
        return checkpoint_file.read(source, trust=trust)

    def build(self, architecture: SevenNetArchitecture, dtype: torch.dtype) -> nn.Module:
        return build.build(architecture, dtype)

    def build_for_training(self, architecture: SevenNetArchitecture, dtype: torch.dtype) -> nn.Module:
        with quicker_gradients():
            return self.build(architecture, dtype)

    def feature_spaces(self, architecture: SevenNetArchitecture) -> tuple[FeatureSpace, ...]:
        return layouts.feature_spaces(architecture)

    def weight_layouts(self, architecture: SevenNetArchitecture) -> Mapping[str, WeightLayout]:
        return layouts.weight_layouts(architecture)

    def shrink(self, architecture: SevenNetArchitecture, plan: PruningPlan) -> SevenNetArchitecture:
        return layouts.shrink(architecture, plan)

    def rewrite_for_plan(
        self, architecture: SevenNetArchitecture, weights: Weights, plan: PruningPlan
    ) -> tuple[SevenNetArchitecture, Weights]:
        return rewrites.rewrite_for_plan(architecture, weights, plan)

    def energies(
        self,
        module: nn.Module,
        architecture: SevenNetArchitecture,
        graph: AtomicGraph,
        head: str | None,
        taps: Taps,
    ) -> Tensor:
        return forward.energies(module, architecture, graph, head, taps)

    def with_references(
        self, architecture: SevenNetArchitecture, weights: Weights, changes: Mapping[int, float], head: str | None
    ) -> tuple[SevenNetArchitecture, Weights]:
        return references.with_references(architecture, weights, changes, head)

    def with_scale(
        self, architecture: SevenNetArchitecture, weights: Weights, scale: float, head: str | None
    ) -> tuple[SevenNetArchitecture, Weights]:
        return references.with_scale(architecture, weights, scale, head)

    def export(self, checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
        return export.write(checkpoint, path)

    def stock_energies(self, path: Path, structures: Sequence[Atoms], head: str | None) -> list[float]:
        return export.stock_energies(path, structures, head)
