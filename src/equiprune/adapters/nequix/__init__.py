"""Nequix: models of OMat24, sAlex and MPtrj. Upstream: nequix 0.4.5, e3nn 0.5.8 and later."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from equiprune.adapters.e3nn.adapter import E3nnAdapter
from equiprune.adapters.e3nn.edges import make_quicker
from equiprune.adapters.nequix import build, checkpoint_file, export, forward, layouts, linear_maps, references, uses
from equiprune.adapters.nequix.architecture import NequixArchitecture
from equiprune.adapters.nequix.published import PUBLISHED
from equiprune.files.download import PublishedFile


class NequixAdapter(E3nnAdapter[NequixArchitecture]):
    """Nequix, whose parts are in the modules beside this one; `upstream` is where its classes are imported."""

    name = "nequix"
    architecture_type = NequixArchitecture
    packages = ("nequix",)
    suffixes = (".pt", ".nqx")
    looks_for = "a first line of JSON with hidden irreps and atomic energies (Nequix)"
    preset = "sevennet"

    aliases = checkpoint_file.ALIASES

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
    uses = staticmethod(uses.uses)  # after what is taken from the module of that name

    def published(self) -> dict[str, PublishedFile]:
        return {alias: file for alias, (_, file) in PUBLISHED.items()}

    def build_for_evaluation(self, architecture: NequixArchitecture, dtype: torch.dtype, /) -> nn.Module:
        """The module of `build` with sums over neighbours that take less time on a CPU."""
        module: Any = self.build(architecture, dtype)
        make_quicker(layer.tp for layer in module.layers)
        return module
