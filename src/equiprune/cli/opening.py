"""Opening the models that a command line names, and refusing what it names in vain before long work."""

from collections.abc import Sequence
from pathlib import Path

import equiprune as ep
from equiprune.adapters import Checkpoint, ModelAdapter
from equiprune.adapters.precision import dtype_named
from equiprune.cli.flags.panels import Common
from equiprune.cli.flags.values import Dtype
from equiprune.errors import OutputError, TargetError
from equiprune.potentials.potential import devices


def read_model(model: str, common: Common) -> tuple[ModelAdapter, Checkpoint]:
    """A model as data, opened as the common flags say."""
    return ep.read_checkpoint(model, trust=common.trust, adapter=common.adapter)


def open_model(
    model: str,
    dtype: Dtype | None,
    common: Common,
    *,
    any_head: bool = False,
    preferred: str | None = None,
    device: str = "cpu",
) -> ep.Potential:
    """Open a model, in the precision it is stored in unless one is given.

    Where it has heads and none is named, ``preferred`` serves, or with ``any_head`` the first.
    """
    adapter, checkpoint = read_model(model, common)
    heads = checkpoint.architecture.heads
    head = common.head or (preferred if preferred in heads else None) or (heads[0] if any_head and heads else None)
    chosen = dtype_named(dtype) if dtype else checkpoint.dtype
    return ep.Potential.create(adapter, checkpoint, chosen, head, device)


def open_models(models: Sequence[str], dtype: Dtype, common: Common, device: str) -> dict[str, ep.Potential]:
    """Open several models; ``--head`` is for those that have heads, and at least one must."""
    several = {model: bool(read_model(model, common)[1].architecture.heads) for model in models}
    single = common.headless if any(several.values()) else common
    return {m: open_model(m, dtype, common if several[m] else single, device=device) for m in models}


def check_device(device: str) -> None:
    """Raise `TargetError` naming what there is, unless the device is here."""
    if device not in devices():
        raise TargetError(f"--device {device} is not available here. Available: {', '.join(devices())}.")


def check_named_once(models: Sequence[str]) -> None:
    """Raise `TargetError` unless models that are compared are several."""
    if len(set(models)) < len(models):
        raise TargetError(f"A model is named twice: {', '.join(models)}. Name each once.")


def check_suffix(path: Path, what: str, *allowed: str) -> None:
    """Raise `OutputError` unless the suffix is one that ``what`` is written as."""
    if path.suffix not in allowed:
        raise OutputError(f"{what} is written as {' or '.join(allowed)}, not '{path.suffix}' ('{path}').")
