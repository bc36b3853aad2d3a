"""Opening the models that a command names, and refusing what it names in vain before long work."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import equiprune as ep
from equiprune.adapters import Checkpoint, ModelAdapter, aliases
from equiprune.adapters.precision import dtype_named
from equiprune.commands.options.opening import OpeningOptions
from equiprune.commands.options.values import Dtype
from equiprune.errors import OutputError, TargetError
from equiprune.potentials.potential import devices
from equiprune.structures.reading import fingerprint


def read_model(model: str, opening: OpeningOptions) -> tuple[ModelAdapter, Checkpoint]:
    """A model as data, opened as the options say."""
    return ep.read_checkpoint(model, trust=opening.trust, adapter=opening.adapter)


def open_model(
    model: str,
    dtype: Dtype | None,
    opening: OpeningOptions,
    *,
    any_head: bool = False,
    preferred: str | None = None,
    device: str = "cpu",
) -> ep.Potential:
    """Open a model, in the precision it is stored in unless one is given.

    Where it has heads and none is named, ``preferred`` serves, or with ``any_head`` the first.
    """
    adapter, checkpoint = read_model(model, opening)
    heads = checkpoint.architecture.heads
    head = opening.head or (preferred if preferred in heads else None) or (heads[0] if any_head and heads else None)
    chosen = dtype_named(dtype) if dtype else checkpoint.dtype
    return ep.Potential.create(adapter, checkpoint, chosen, head, device)


def open_models(models: Sequence[str], dtype: Dtype, opening: OpeningOptions, device: str) -> dict[str, ep.Potential]:
    """Open several models; a head is for those that have heads, and at least one must."""
    several = {model: bool(read_model(model, opening)[1].architecture.heads) for model in models}
    single = opening.headless if any(several.values()) else opening
    return {m: open_model(m, dtype, opening if several[m] else single, device=device) for m in models}


Identities = Mapping[str, Mapping[str, str | None]]
"""``sha256`` and ``head`` of every model, by name."""


def identities(potentials: Mapping[str, ep.Potential]) -> Identities:
    """Digest and head of every model, by name: results say what they are of, so that a certificate can show them."""
    return {name: {"sha256": each.checkpoint.sha256, "head": each.head} for name, each in potentials.items()}


def check_device(device: str) -> None:
    """Raise `TargetError` naming what there is, unless the device is here."""
    if device not in devices():
        raise TargetError(f"`device` {device} is not available here. Available: {', '.join(devices())}.")


def check_compared(models: Sequence[str], device: str) -> None:
    """Raise `TargetError` unless models that are compared are several, and their device is here."""
    if len(set(models)) < len(models):
        raise TargetError(f"A model is named twice: {', '.join(models)}. Name each once.")
    check_device(device)


def check_suffix(path: Path, what: str, *allowed: str) -> None:
    """Raise `OutputError` unless the suffix is one that ``what`` is written as."""
    if path.suffix not in allowed:
        raise OutputError(f"{what} is written as {' or '.join(allowed)}, not '{path.suffix}' ('{path}').")


# Models and files of a recipe, from wherever it is run.


def model_at(text: str, folder: Path) -> str:
    """A model of a recipe in a folder, as commands open it: a directory first, then an alias, then a file."""
    path = folder / Path(text).expanduser()
    return text if not path.is_dir() and text.lower() in aliases() else str(path)


def is_missing(text: str) -> bool:
    """True if it is a file, and there is none; what is no alias is absolute."""
    return Path(text).is_absolute() and not Path(text).exists()


def sha256_at(text: str) -> str:
    """sha256 of a file, or of what an alias stands for."""
    return fingerprint(text) if Path(text).is_absolute() else _published(text)


@cache
def _published(alias: str) -> str:
    """Opened, because its package or cache may have another one tomorrow."""
    return ep.read_checkpoint(alias)[1].sha256
