"""Finding adapters: entry points of group ``equiprune.adapters``, loaded when first needed.

A third party adds an architecture by declaring an entry point; nothing here is edited. One that cannot be used breaks
nothing but itself: it says why when it is asked for.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from equiprune.adapters.base import ModelAdapter
from equiprune.adapters.capabilities import Publishes
from equiprune.errors import CheckpointError, closest
from equiprune.files.download import PackagedFile, PublishedFile
from equiprune.models import shipped_models

_GROUP = "equiprune.adapters"


@cache
def _entry_points() -> Mapping[str, tuple[EntryPoint, ...]]:
    """By name; several packages may declare the same one."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=_GROUP):
        found.setdefault(point.name, {})[point.value] = point
    return {name: tuple(found[name].values()) for name in sorted(found)}


@cache
def _opened(name: str) -> ModelAdapter | str:
    """The adapter of an entry point, or why it cannot be used."""
    point, *others = _entry_points()[name]
    if others:
        declared = ", ".join(sorted(p.value for p in (point, *others)))
        return f"'{name}' cannot be used: several packages declare it: {declared}"
    try:
        adapter = point.load()()
        if not isinstance(adapter, ModelAdapter):
            raise TypeError(f"it makes a {type(adapter).__name__}, not a ModelAdapter")
        dict(adapter.aliases)
        if adapter.name != name:
            raise ValueError(f"it calls itself '{adapter.name}', and files are found again by that name")
    except Exception as error:  # a plug-in may fail in any way
        return f"'{name}' ({point.value}) cannot be used: {type(error).__name__}: {error}"
    return adapter


def adapter_named(name: str) -> ModelAdapter:
    """The adapter of that entry-point name.

    Raises:
        CheckpointError: none has that name, or the one that has cannot be used; says which are installed, or why.
    """
    points = _entry_points()
    if name not in points:
        raise CheckpointError(f"No adapter is called '{name}'.{closest(name, points)} Installed: {', '.join(points)}.")
    adapter = _opened(name)
    if isinstance(adapter, str):
        raise CheckpointError(f"The adapter {adapter.rstrip('.')}. Mend or remove the package that it comes with.")
    return adapter


def usable_adapters() -> Iterator[ModelAdapter]:
    """Every adapter that can be used, by name; its package need not be installed."""
    for name in _entry_points():
        adapter = _opened(name)
        if isinstance(adapter, ModelAdapter):
            yield adapter


def _unusable() -> str:
    """A sentence about the others, empty where there are none."""
    reasons = [reason for name in _entry_points() if isinstance(reason := _opened(name), str)]
    return f" Adapters that cannot be used: {'; '.join(reasons)}." if reasons else ""


def aliases() -> dict[str, str]:
    """Every known alias, of published models and of those that come with equiprune, and the adapter that opens it."""
    published = {alias: adapter.name for adapter in usable_adapters() for alias in adapter.aliases}
    return published | {name: model.adapter for name, model in shipped_models().items()}


def file_of(alias: str) -> PublishedFile | PackagedFile | None:
    """The file that an alias stands for, as far as its adapter knows; None for anything else."""
    owner = aliases().get(alias.lower())
    adapter = adapter_named(owner) if owner else None
    return adapter.published().get(alias.lower()) if isinstance(adapter, Publishes) else None


def adapter_for(source: str | Path, named: str | None = None) -> ModelAdapter:
    """The adapter that opens an alias or an upstream file; of a file the one that recognises it.

    Where none does, the suffix chooses who says what is wrong with it.

    Args:
        source: alias or path.
        named: the adapter that must open it.

    Raises:
        CheckpointError: neither a known alias nor a file; one that no adapter recognises, or several; an alias of
            another adapter than the one named.
    """
    text, path = str(source), Path(source)
    known = aliases()
    if owner := known.get(text.lower()):
        return check_adapter(adapter_named(owner), named, text)
    if not path.exists():
        raise CheckpointError(
            f"'{text}' is neither a file nor a known model.{closest(text.lower(), known)} "
            f"Known models: {', '.join(sorted(known))}.{_unusable()}"
        )
    return adapter_named(named) if named else _recognising(path)


def check_adapter(adapter: ModelAdapter, named: str | None, source: str | Path) -> ModelAdapter:
    """The adapter that a model says it is of; raises `CheckpointError` where another one was named."""
    if named is not None and adapter_named(named) is not adapter:
        raise CheckpointError(f"'{source}' is a model of {adapter.name}, not of {named}. Leave out the adapter.")
    return adapter


def _recognising(path: Path) -> ModelAdapter:
    found = [adapter for adapter in usable_adapters() if adapter.recognises(path)]
    found = found or [adapter for adapter in usable_adapters() if path.name.lower().endswith(adapter.suffixes)]
    if len(found) == 1:
        return found[0]
    names = " and ".join(adapter.name for adapter in found)
    if found:
        raise CheckpointError(
            f"'{path}' could be a model of {names}. Say which with `adapter`, such as {found[0].name}."
        )
    looked_for = "; ".join(f"{adapter.name}: {adapter.looks_for}" for adapter in usable_adapters() if adapter.looks_for)
    raise CheckpointError(
        f"No adapter recognises '{path}'. They looked for: {looked_for}. Give such a file, or a directory that "
        f"equiprune wrote.{_unusable()}"
    )
