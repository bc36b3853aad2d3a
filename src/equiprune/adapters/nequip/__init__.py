"""NequIP: models of nequip 0.15 and later, and packages of them. Upstream: nequip 0.19, e3nn 0.6."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from equiprune.adapters.e3nn.adapter import E3nnAdapter
from equiprune.adapters.e3nn.edges import make_quicker
from equiprune.adapters.nequip import (
    build,
    checkpoint_file,
    export,
    forward,
    layouts,
    linear_maps,
    pair_styles,
    references,
    uses,
)
from equiprune.adapters.nequip.architecture import NequIPArchitecture


class NequIPAdapter(E3nnAdapter[NequIPArchitecture]):
    """NequIP, whose parts are in the modules beside this one."""

    name = "nequip"
    architecture_type = NequIPArchitecture
    packages = ("nequip",)
    suffixes = (checkpoint_file.SUFFIX,)
    looks_for = f"'{checkpoint_file.MODEL}' in an archive of torch.package (NequIP)"
    preset = "sevennet"

    recognises = staticmethod(checkpoint_file.recognised)
    read = staticmethod(checkpoint_file.read)
    build = staticmethod(build.build)
    spaces = staticmethod(layouts.feature_spaces)
    layouts = staticmethod(layouts.weight_layouts)  # after what is taken from the module of that name
    evaluate = staticmethod(forward.evaluate)

    linear_spaces = staticmethod(linear_maps.linear_spaces)
    linear_maps = staticmethod(linear_maps.linear_maps)  # after what is taken from the module of that name
    with_references = staticmethod(references.with_references)
    with_scale = staticmethod(references.with_scale)
    why_not_exported = staticmethod(export.why_not)
    stock_energies = staticmethod(export.stock_energies)
    export = staticmethod(export.write)
    pair_styles = staticmethod(pair_styles.pair_styles)  # after what is taken from the module of that name
    uses = staticmethod(uses.uses)  # after what is taken from the module of that name

    def build_for_evaluation(self, architecture: NequIPArchitecture, dtype: torch.dtype, /) -> nn.Module:
        """The module of `build` with sums over neighbours that take less time on a CPU."""
        module: Any = self.build(architecture, dtype)
        layers = (module.model.func.get_submodule(f"layer{t}_convnet") for t in range(architecture.layers))
        make_quicker(layer.conv.tp_scatter.tp for layer in layers)
        return module
