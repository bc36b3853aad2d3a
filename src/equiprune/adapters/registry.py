"""Finding adapters: entry points of group ``equiprune.adapters``, loaded when first needed.

A third party adds an architecture by declaring an entry point; nothing here is edited.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from equiprune.adapters.base import ModelAdapter
from equiprune.errors import CheckpointError, closest

_GROUP = "equiprune.adapters"


@cache
def _entry_points() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_GROUP)}


@cache
def adapter_named(name: str) -> ModelAdapter:
    """The adapter of that entry-point name; raises `CheckpointError` naming those installed."""
    points = _entry_points()
    if name not in points:
        raise CheckpointError(
            f"No adapter is called '{name}'.{closest(name, points)} Installed: {', '.join(sorted(points))}."
        )
    adapter = points[name].load()()
    assert isinstance(adapter, ModelAdapter)
    return adapter


def aliases() -> dict[str, str]:
    """Every known alias and the adapter that opens it."""
    return {alias: name for name in sorted(_entry_points()) for alias in adapter_named(name).aliases()}


def adapter_for(source: str | Path) -> ModelAdapter:
    """The adapter that opens an alias or an upstream file, by alias and then by suffix.

    Raises:
        CheckpointError: neither a known alias nor an existing file of a known suffix.
    """
    text, path = str(source), Path(source)
    known = aliases()
    if text.lower() in known:
        return adapter_named(known[text.lower()])
    if not path.exists():
        raise CheckpointError(
            f"'{text}' is neither a file nor a known model.{closest(text.lower(), known)} "
            f"Known models: {', '.join(sorted(known))}."
        )
    for name in sorted(_entry_points()):
        if path.suffix in adapter_named(name).suffixes:
            return adapter_named(name)
    suffixes = sorted(s for name in _entry_points() for s in adapter_named(name).suffixes)
    raise CheckpointError(
        f"'{text}' has the suffix '{path.suffix}', which no adapter opens. Open {', '.join(suffixes)}, "
        "or a directory that equiprune wrote."
    )
