"""Facts of models that need no file: where an alias comes from, under which licence, and whether it is here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equiprune.adapters import file_of, usable_adapters
from equiprune.files.atomic import read_json
from equiprune.files.download import PackagedFile, PublishedFile, found_here, is_offline, place_of
from equiprune.models import shipped_models


@dataclass(frozen=True)
class KnownModel:
    """One alias.

    Attributes:
        alias: opens the model.
        adapter: of its architecture.
        about: a few words about it.
        licence: of its weights; empty where only the file says it.
        where: ``comes with PACKAGE``, ``in the cache`` or ``to be downloaded``.
    """

    alias: str
    adapter: str
    about: str
    licence: str
    where: str


@dataclass(frozen=True)
class KnownModels:
    """Every alias, of one architecture after the other."""

    models: tuple[KnownModel, ...]

    def to_json(self) -> list[dict[str, Any]]:
        return [vars(model) for model in self.models]


def known_models() -> KnownModels:
    """Every model that has a name; no file is opened, so one in the cache may still turn out to be another one."""
    return KnownModels((*_shipped(), *_of_adapters()))


def published_file(model: str) -> PublishedFile | None:
    """The file that must be downloaded or put in the cache to open a model; None for any other.

    A directory of that name, where the program runs, comes first.
    """
    file = None if Path(model).is_dir() or model.lower() in shipped_models() else file_of(model)
    return file if isinstance(file, PublishedFile) else None


def describe_file(file: PublishedFile) -> dict[str, Any]:
    """Facts of a published file. Raises `CheckpointError` where another file lies in its place."""
    here = found_here(file)
    return {
        "url": file.url,
        "file": str(here or place_of(file)),
        "on_this_machine": here is not None,
        "published_sha256": file.sha256 or None,
    }


def describe_missing(model: str, adapter: str, file: PublishedFile) -> dict[str, Any] | None:
    """Facts of a model whose file is not here while downloads are forbidden, None where it can be opened."""
    if not is_offline() or found_here(file) is not None:
        return None
    return {
        "adapter": adapter,
        "source": model,
        "licence": file.licence,
        **describe_file(file),
        "missing": f"Download {file.url} where there is a network, and put it at '{place_of(file)}'.",
    }


def _shipped() -> Iterator[KnownModel]:
    for name, model in shipped_models().items():
        licence = read_json(model.folder / "provenance.json", "record of where a model comes from")["licence"]
        about = f"made from {model.measured['model']['parent']}"
        yield KnownModel(name, model.adapter, about, licence, "comes with equiprune")


def _of_adapters() -> Iterator[KnownModel]:
    for adapter in usable_adapters():
        for alias, about in adapter.aliases.items():
            yield KnownModel(alias, adapter.name, about, *_licence_and_place(file_of(alias)))


def _licence_and_place(file: PublishedFile | PackagedFile | None) -> tuple[str, str]:
    match file:
        case PackagedFile(package, licence):
            return licence, f"comes with {package}"
        case PublishedFile():
            return file.licence, "in the cache" if os.path.exists(place_of(file)) else "to be downloaded"
    return "", "comes with its adapter"
