"""SevenNet (a NequIP): l3i5, 0, MF-0 and any checkpoint that sevenn loads. Upstream: sevenn 0.13, e3nn 0.5 or later."""

from __future__ import annotations

import torch
from torch import nn

from equiprune.adapters.e3nn.adapter import E3nnAdapter
from equiprune.adapters.engines import ArchitectureEngine
from equiprune.adapters.sevennet import (
    build,
    checkpoint_file,
    export,
    forward,
    layouts,
    linear_maps,
    pair_styles,
    published,
    references,
    rewrites,
    uses,
)
from equiprune.adapters.sevennet.architecture import SevenNetArchitecture
from equiprune.adapters.sevennet.convolution import with_quicker_convolutions
from equiprune.adapters.sevennet.kernels import SevenNetCuEquivariance, SevenNetFlashTP, SevenNetOpenEquivariance


class SevenNetAdapter(E3nnAdapter[SevenNetArchitecture]):
    """SevenNet, whose parts are in the modules beside this one."""

    name = "sevennet"
    architecture_type = SevenNetArchitecture
    packages = ("sevenn",)
    suffixes = (".pth",)
    looks_for = "'model_state_dict' beside a 'config' with chemical species (SevenNet)"
    preset = "sevennet"
    aliases = published.descriptions()

    recognises = staticmethod(checkpoint_file.recognised)
    read = staticmethod(checkpoint_file.read)
    build = staticmethod(build.build)
    spaces = staticmethod(layouts.feature_spaces)
    shrink = staticmethod(layouts.shrink)
    layouts = staticmethod(layouts.weight_layouts)  # after what is taken from the module of that name
    evaluate = staticmethod(forward.evaluate)

    rewrite_for_plan = staticmethod(rewrites.rewrite_for_plan)
    linear_spaces = staticmethod(linear_maps.linear_spaces)
    linear_maps = staticmethod(linear_maps.linear_maps)  # after what is taken from the module of that name
    with_references = staticmethod(references.with_references)
    with_scale = staticmethod(references.with_scale)
    why_not_exported = staticmethod(export.why_not)
    stock_energies = staticmethod(export.stock_energies)
    export = staticmethod(export.write)
    pair_styles = staticmethod(pair_styles.pair_styles)  # after what is taken from the module of that name
    uses = staticmethod(uses.uses)  # after what is taken from the module of that name
    published = staticmethod(published.published)  # after what is taken from the module of that name

    def build_for_evaluation(self, architecture: SevenNetArchitecture, dtype: torch.dtype, /) -> nn.Module:
        """The module of `build` with convolutions that take less time on a CPU."""
        return with_quicker_convolutions(self.build(architecture, dtype), architecture.interactions)

    def engines(self) -> tuple[ArchitectureEngine, ...]:
        return SevenNetCuEquivariance(), SevenNetOpenEquivariance(), SevenNetFlashTP()
