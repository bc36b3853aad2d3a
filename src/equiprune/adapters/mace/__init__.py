"""MACE: MACE-MP, MPA, OMAT, OFF and models trained with mace-torch 0.3. Upstream: mace-torch 0.3.16, e3nn 0.4.4."""

from __future__ import annotations

import torch
from torch import nn

from equiprune.adapters.e3nn.adapter import E3nnAdapter
from equiprune.adapters.engines import ArchitectureEngine
from equiprune.adapters.mace import (
    build,
    checkpoint_file,
    export,
    forward,
    growth,
    layouts,
    linear_maps,
    pair_styles,
    published,
    references,
    uses,
)
from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.adapters.mace.kernels import MaceCuEquivariance, MaceOpenEquivariance
from equiprune.adapters.mace.layer_norms import with_differentiable_norms
from equiprune.adapters.mace.symmetrix import SymmetrixEngine
from equiprune.files.download import PublishedFile


class MaceAdapter(E3nnAdapter[MaceArchitecture]):
    """MACE, whose parts are in the modules beside this one."""

    name = "mace"
    architecture_type = MaceArchitecture
    packages = ("mace-torch",)
    suffixes = (".model",)
    looks_for = "a pickled module of mace.modules.models (MACE)"
    aliases = {alias: description for alias, (description, _) in published.published().items()}  # noqa: RUF012 (never changed)

    recognises = staticmethod(checkpoint_file.recognised)
    read = staticmethod(checkpoint_file.read)
    build = staticmethod(build.build)
    spaces = staticmethod(layouts.feature_spaces)
    shrink = staticmethod(layouts.shrink)
    layouts = staticmethod(layouts.weight_layouts)  # after what is taken from the module of that name
    evaluate = staticmethod(forward.evaluate)

    grow = staticmethod(growth.grow)
    linear_spaces = staticmethod(linear_maps.linear_spaces)
    linear_maps = staticmethod(linear_maps.linear_maps)  # after what is taken from the module of that name
    with_references = staticmethod(references.with_references)
    with_scale = staticmethod(references.with_scale)
    why_not_exported = staticmethod(export.why_not)
    stock_energies = staticmethod(export.stock_energies)
    export = staticmethod(export.write)
    pair_styles = staticmethod(pair_styles.pair_styles)  # after what is taken from the module of that name
    uses = staticmethod(uses.uses)  # after what is taken from the module of that name

    def build_for_training(self, architecture: MaceArchitecture, dtype: torch.dtype, /) -> nn.Module:
        """As for every model of e3nn, with layer norms that Hessian products can be trained through."""
        return with_differentiable_norms(super().build_for_training(architecture, dtype))

    def published(self) -> dict[str, PublishedFile]:
        return {alias: file for alias, (_, file) in published.published().items()}

    def engines(self) -> tuple[ArchitectureEngine, ...]:
        return SymmetrixEngine(), MaceCuEquivariance(), MaceOpenEquivariance()
