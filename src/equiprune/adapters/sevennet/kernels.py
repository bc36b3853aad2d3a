"""SevenNet with GPU kernels of other packages in its convolutions, by the switches of sevenn itself.

sevenn goes on with e3nn where a package is not usable and only warns; what it built is therefore looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import nn

from equiprune.adapters import kernels
from equiprune.adapters.base import Checkpoint, load_weights
from equiprune.adapters.engines import KernelEngine
from equiprune.adapters.sevennet.architecture import to_config
from equiprune.adapters.sevennet.build import upstream_defaults

_ON_A_GPU = "benchmarks/gpu/README.md, on an H100"


class _Switched(KernelEngine):
    """A module that sevenn builds when its configuration asks for kernels."""

    switches: ClassVar[Mapping[str, Any]]

    def built(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> nn.Module:
        from sevenn.model_build import build_E3_equivariant_model

        config = {**to_config(checkpoint.architecture), **self.switches}
        with upstream_defaults(dtype), redirect_stdout(StringIO()):  # FlashTP prints
            module = build_E3_equivariant_model(config).to(dtype)
        load_weights(module, checkpoint.weights)
        return module.to(device)

    def convolutions(self, module: nn.Module) -> list[nn.Module]:
        return [part.get_submodule("convolution") for name, part in module.named_children() if _is_convolution(name)]


def _is_convolution(name: str) -> bool:
    number, _, rest = name.partition("_")
    return number.isdigit() and rest == "convolution"


class SevenNetCuEquivariance(_Switched, kernels.CuEquivariance):
    """``cuequivariance_config`` of sevenn."""

    switches = MappingProxyType({"cuequivariance_config": {"use": True}})
    measured = _ON_A_GPU
    written_in = "sevenn.nn.cue_helper"


class SevenNetOpenEquivariance(_Switched, kernels.OpenEquivariance):
    """``use_oeq`` of sevenn."""

    switches = MappingProxyType({"use_oeq": True})
    measured = _ON_A_GPU
    written_in = "sevenn.nn.oeq_helper"


class SevenNetFlashTP(_Switched, kernels.FlashTP):
    """``use_flash_tp`` of sevenn."""

    switches = MappingProxyType({"use_flash_tp": True})
    written_in = "flashTP_e3nn"
