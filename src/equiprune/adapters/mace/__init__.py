"""MACE: MACE-MP, MPA, OMAT, OFF and models trained with mace-torch 0.3. Upstream: mace-torch 0.3.16, e3nn 0.4.4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from ase import Atoms
from torch import Tensor, nn

from equiprune.adapters.base import Checkpoint, ModelAdapter, Taps, Weights
from equiprune.adapters.e3nn.fused_gradients import quicker_gradients
from equiprune.adapters.growth import Growth
from equiprune.adapters.mace import build, checkpoint_file, export, forward, layouts, references
from equiprune.adapters.mace import growth as growing
from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.adapters.mace.published import PUBLISHED
from equiprune.blocks import FeatureSpace, PruningPlan, WeightLayout
from equiprune.structures.graph import AtomicGraph


class MaceAdapter(ModelAdapter):
    """See the modules beside this one: architecture, layouts, growth, references, build, forward, checkpoint_file,
    export.
    """

    name = "mace"
    architecture_type = MaceArchitecture
    suffixes = (".model",)
    looks_for = "a pickled module of mace.modules.models (MACE)"

    def aliases(self) -> Mapping[str, str]:
        return {alias: description for alias, (description, _) in PUBLISHED.items()}

    def recognises(self, path: Path) -> bool:
        return checkpoint_file.recognised(path)

    def read(self, source: str | Path, *, trust: bool = False) -> Checkpoint:
        return checkpoint_file.read(source)

    def build(self, architecture: MaceArchitecture, dtype: torch.dtype) -> nn.Module:
        return build.build(architecture, dtype)

    def build_for_training(self, architecture: MaceArchitecture, dtype: torch.dtype) -> nn.Module:
        with quicker_gradients():
            return self.build(architecture, dtype)

    def feature_spaces(self, architecture: MaceArchitecture) -> tuple[FeatureSpace, ...]:
        return layouts.feature_spaces(architecture)

    def weight_layouts(self, architecture: MaceArchitecture) -> Mapping[str, WeightLayout]:
        return layouts.weight_layouts(architecture)

    def shrink(self, architecture: MaceArchitecture, plan: PruningPlan) -> MaceArchitecture:
        return layouts.shrink(architecture, plan)

    def grow(
        self, architecture: MaceArchitecture, weights: Weights, growth: Growth
    ) -> tuple[MaceArchitecture, Weights]:
        return growing.grow(architecture, weights, growth)

    def energies(
        self,
        module: nn.Module,
        architecture: MaceArchitecture,
        graph: AtomicGraph,
        head: str | None,
        taps: Taps,
    ) -> Tensor:
        return forward.energies(module, architecture, graph, head, taps)

    def with_references(
        self, architecture: MaceArchitecture, weights: Weights, changes: Mapping[int, float], head: str | None
    ) -> tuple[MaceArchitecture, Weights]:
        return references.with_references(architecture, weights, changes, head)

    def with_scale(
        self, architecture: MaceArchitecture, weights: Weights, scale: float, head: str | None
    ) -> tuple[MaceArchitecture, Weights]:
        return references.with_scale(architecture, weights, scale, head)

    def why_not_exported(self, architecture: MaceArchitecture) -> str:
        return export.why_not()

    def export(self, checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
        return export.write(checkpoint, path)

    def stock_energies(self, path: Path, structures: Sequence[Atoms], head: str | None) -> list[float]:
        return export.stock_energies(path, structures, head)
