"""Importing some modules of a package without running what the package itself imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_NOTHING: Mapping[str, Mapping[str, Any]] = {}


@contextmanager
def bare_packages(folders: Mapping[str, Path], stand_ins: Mapping[str, Mapping[str, Any]] = _NOTHING) -> Iterator[None]:
    """Imports meanwhile find modules in these folders, and no ``__init__`` is run.

    Afterwards nothing of it stays in ``sys.modules``, so that a program that imports the package for itself gets all
    of it.

    Args:
        folders: of packages by their full names, all of one top-level package.
        stand_ins: members of modules, by full name, that are imported in place of real ones.
    """
    [top] = {name.partition(".")[0] for name in folders}
    before = _modules_of(top)
    for name in before:
        del sys.modules[name]
    try:
        for name, folder in folders.items():
            sys.modules[name] = _module(name, {"__path__": [str(folder)]})
        for name, members in stand_ins.items():
            sys.modules[name] = _module(name, members)
        yield
    finally:
        for name in _modules_of(top):
            del sys.modules[name]
        sys.modules.update(before)


def _modules_of(top: str) -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == top}


def _module(name: str, members: Mapping[str, Any]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module
