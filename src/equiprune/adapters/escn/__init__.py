"""eSCN: models of the Open Catalyst project. Upstream: fairchem-core 1.10, e3nn 0.5 and later."""

from __future__ import annotations

from dataclasses import replace

from equiprune.adapters.base import ModelAdapter
from equiprune.adapters.capabilities import Weights
from equiprune.adapters.escn import build, checkpoint_file, export, forward, layouts, uses
from equiprune.adapters.escn.architecture import EscnArchitecture
from equiprune.adapters.growth import Growth, NativeGrids
from equiprune.errors import TargetError


class EscnAdapter(ModelAdapter[EscnArchitecture]):
    """eSCN, whose parts are in the modules beside this one; `upstream` is where fairchem is imported."""

    name = "escn"
    architecture_type = EscnArchitecture
    packages = ("fairchem-core",)
    suffixes = (".pt",)
    looks_for = "'state_dict' beside a 'config' whose model is escn (eSCN)"
    preset = "escn"

    recognises = staticmethod(checkpoint_file.recognised)
    read = staticmethod(checkpoint_file.read)
    build = staticmethod(build.build)
    spaces = staticmethod(layouts.feature_spaces)
    shrink = staticmethod(layouts.shrink)
    layouts = staticmethod(layouts.weight_layouts)  # after what is taken from the module of that name
    evaluate = staticmethod(forward.evaluate)

    why_not_exported = staticmethod(export.why_not)
    stock_energies = staticmethod(export.stock_energies)
    export = staticmethod(export.write)
    uses = staticmethod(uses.uses)  # after what is taken from the module of that name

    def grow(
        self, architecture: EscnArchitecture, weights: Weights, growth: Growth
    ) -> tuple[EscnArchitecture, Weights]:
        """Give back the points on spheres that upstream's constructor takes."""
        if not isinstance(growth, NativeGrids):
            raise TargetError(f"{self.name} models cannot grow ({type(growth).__name__}). Leave that out.")
        message_grid, node_grid = architecture.native_grids
        return replace(architecture, message_grid=message_grid, node_grid=node_grid), weights
