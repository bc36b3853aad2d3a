"""Building SevenNet modules with upstream's constructor."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from equiprune.adapters.precision import default_dtype
from equiprune.adapters.sevennet.architecture import SevenNetArchitecture, to_config
from equiprune.errors import CheckpointError


def build(architecture: SevenNetArchitecture, dtype: torch.dtype) -> nn.Module:
    """An upstream module with freshly initialised weights."""
    try:
        from sevenn.model_build import build_E3_equivariant_model
    except ImportError as error:
        raise CheckpointError(
            f"SevenNet models need sevenn ({error}). Install it with: pip install 'equiprune[sevennet]'."
        ) from error
    with upstream_defaults(dtype):
        return build_E3_equivariant_model(to_config(architecture)).to(dtype)


@contextmanager
def upstream_defaults(dtype: torch.dtype) -> Iterator[None]:
    """e3nn takes the precision of its constants from torch's default dtype while a module is constructed."""
    with default_dtype(dtype), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
