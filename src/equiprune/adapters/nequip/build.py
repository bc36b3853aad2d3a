"""Building NequIP modules with upstream's constructor."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from equiprune.adapters.nequip.architecture import NequIPArchitecture, arguments, reached
from equiprune.adapters.precision import default_dtype
from equiprune.errors import CheckpointError

NAMES = {torch.float32: "float32", torch.float64: "float64"}
INSTALL = "NequIP models need nequip 0.19. Install it with: pip install 'equiprune[nequip]'"


def build(arch: NequIPArchitecture, dtype: torch.dtype) -> nn.Module:
    """An upstream module with freshly initialised weights, every number in one precision.

    Irreps that no path leads to are left in, with no weight into them; upstream's constructor alone would leave them
    out (see `equiprune.adapters.nequip.architecture.reached`).
    """
    return graph_model(arch, dtype).to(dtype)


def graph_model(arch: NequIPArchitecture, dtype: torch.dtype, *, compiled: bool = False) -> Any:
    """Upstream's ``GraphModel`` as its decorator ``model_builder`` makes it.

    Constants of edges and energies are in float64. The decorator asks for settings of the whole program, which are left
    as they are here. One that is ``compiled`` is upstream's ``CompileGraphModel``, which torch.compile turns into code
    when it is first called.

    Raises:
        CheckpointError: nequip is not installed; the line to type is in the message.
    """
    try:
        from nequip.model.nequip_models import FullNequIPGNNModel
        from nequip.nn import GraphModel
        from nequip.nn.compile import CompileGraphModel
        from nequip.utils import conditional_torchscript_mode
    except ImportError as error:
        raise CheckpointError(f"{INSTALL}. ({error})") from error
    given = arguments(arch)
    config = {"model_dtype": NAMES[dtype], "seed": 0, **given}
    with default_dtype(dtype), conditional_torchscript_mode(False), warnings.catch_warnings(), _as_asked(arch):
        warnings.simplefilter("ignore")
        model = FullNequIPGNNModel.__wrapped__(**given)
        kind = CompileGraphModel if compiled else GraphModel
        return kind(model=model, model_config=config, model_input_fields=model.irreps_in)


@contextmanager
def _as_asked(arch: NequIPArchitecture) -> Iterator[None]:
    """Layers have all irreps that they are asked for, also those that no path leads to."""
    if arch.hidden_irreps == reached(arch):
        yield
        return
    from nequip.nn import convnetlayer

    before = convnetlayer.tp_path_exists
    convnetlayer.tp_path_exists = lambda *_: True
    try:
        yield
    finally:
        convnetlayer.tp_path_exists = before
