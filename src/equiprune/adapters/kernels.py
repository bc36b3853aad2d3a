"""Packages of GPU kernels for equivariant convolutions, which modules of several architectures can be built with."""

from __future__ import annotations

from abc import ABC
from types import MappingProxyType

import torch

from equiprune.adapters.engines import KernelEngine, Limits


class CuEquivariance(KernelEngine, ABC):
    """NVIDIA's cuEquivariance. Its Python part runs anywhere; the kernels are a package of their own."""

    name = "cuequivariance"
    packages = MappingProxyType(
        {
            "cuequivariance": "cuequivariance",
            "cuequivariance_torch": "cuequivariance-torch",
            "cuequivariance_ops_torch": "cuequivariance-ops-torch-cu12 (or cu13)",
        }
    )
    install = "pip install cuequivariance cuequivariance-torch cuequivariance-ops-torch-cu12 (cu13 for CUDA 13)"


class OpenEquivariance(KernelEngine, ABC):
    """OpenEquivariance, which compiles its kernels for the model and the GPU."""

    name = "openequivariance"
    packages = MappingProxyType({"openequivariance": "openequivariance"})
    install = "pip install openequivariance"


class FlashTP(KernelEngine, ABC):
    """FlashTP, compiled from its source. Upstream builds it in float32, and its Clebsch-Gordan coefficients are so."""

    name = "flashtp"
    packages = MappingProxyType({"flashTP_e3nn": "flashTP_e3nn"})
    install = "its source, github.com/SNU-ARC/flashTP (it is on no package index)"
    dtypes = (torch.float32,)
    limits = Limits(energy=1e-4, forces=1e-3, derivative=2e-2, step=2e-2)
