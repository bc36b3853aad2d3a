"""MACE with GPU kernels of other packages, converted by mace-torch itself.

Its converters rebuild a module from its hyperparameters, so that only a model that upstream's constructor builds can be
converted; they say nothing where they go on with e3nn, and what they built is therefore looked at.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from equiprune.adapters import kernels
from equiprune.adapters.base import Checkpoint, load_weights
from equiprune.adapters.engines import KernelEngine
from equiprune.adapters.mace import build
from equiprune.errors import TargetError


class _Converted(KernelEngine):
    """A module that one of mace-torch's converters makes of the stock one."""

    def built(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> nn.Module:
        if reason := checkpoint.architecture.why_not_stock:
            raise TargetError(
                f"The engine '{self.name}' takes models that mace-torch can rebuild from hyperparameters: {reason} in "
                "this one. Prune to equal channels (`channels` 64), and cut l or order in all interactions alike."
            )
        with build.upstream(dtype):
            stock: Any = build.build(checkpoint.architecture, dtype)
            load_weights(stock, checkpoint.weights)
            # The converters take the kernels that fuse a sum only where they are told exactly "cuda".
            module = self._convert(stock, device.type)
            build.set_activation_constants(module, checkpoint.architecture)
        return module.to(device)

    @abstractmethod
    def _convert(self, stock: nn.Module, device: str) -> nn.Module:
        """The converted module; the context of `build.upstream` puts back the precision that upstream sets."""

    def convolutions(self, module: Any) -> Collection[nn.Module]:
        return [interaction.conv_tp for interaction in module.interactions]


class MaceCuEquivariance(_Converted, kernels.CuEquivariance):
    """``mace_e3nn_cueq``: convolutions, linear maps and the product basis."""

    written_in = "cuequivariance_torch"

    def _convert(self, stock: nn.Module, device: str) -> nn.Module:
        from mace.cli.convert_e3nn_cueq import run

        return run(stock, device=device)


class MaceOpenEquivariance(_Converted, kernels.OpenEquivariance):
    """``mace.cli.convert_e3nn_oeq``: convolutions."""

    written_in = "openequivariance"

    def _convert(self, stock: nn.Module, device: str) -> nn.Module:
        from mace.cli.convert_e3nn_oeq import run

        return run(stock, device=device)
