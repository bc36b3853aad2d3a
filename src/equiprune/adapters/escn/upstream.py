"""eSCN's own classes out of fairchem-core 1.10, without what that package demands beside them.

fairchem-core 1.10 was released for torch 2.4 and numpy 1; its model needs torch and e3nn only and runs with later ones.
The package around it imports a trainer's whole world (PyTorch Geometric, compiled scatter kernels, Hugging Face). Here
its files about eSCN are imported alone: three imports of theirs that the model does not need to compute are given
stand-ins, and afterwards nothing of it stays in ``sys.modules``, so that a program that imports fairchem for itself
gets all of it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from equiprune.errors import CheckpointError

_INSTALL = (
    "eSCN models need fairchem-core 1.10. Install it with: pip install 'equiprune[escn]' and then "
    "pip install --no-deps 'fairchem-core>=1.10,<2'"
)


@cache
def classes() -> SimpleNamespace:
    """Upstream's ``eSCN``, ``SO3_Grid`` and ``SO3_Rotation``.

    Raises:
        CheckpointError: fairchem-core 1.10 is not installed; the line to type is in the message.
    """
    folder = _folder()
    with _alone(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = importlib.import_module("fairchem.core.models.escn.escn")
        so3 = importlib.import_module("fairchem.core.models.escn.so3")
    return SimpleNamespace(eSCN=model.eSCN, SO3_Grid=so3.SO3_Grid, SO3_Rotation=so3.SO3_Rotation)


def _folder() -> Path:
    """Folder of the installed package ``fairchem/core``."""
    try:
        found = distribution("fairchem-core")
        import e3nn  # noqa: F401
    except (PackageNotFoundError, ImportError) as error:
        raise CheckpointError(f"{_INSTALL}. ({error})") from error
    folder = Path(str(found.locate_file("fairchem/core")))
    if not (folder / "models" / "escn" / "escn.py").is_file():
        raise CheckpointError(f"fairchem-core {found.version} has no eSCN. {_INSTALL}.")
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Imports of fairchem find the files about eSCN, and stand-ins for the rest of the package."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "fairchem"}
    for name in before:
        del sys.modules[name]
    packages = {"fairchem": folder.parent, "fairchem.core": folder}
    packages |= {f"fairchem.core.{name}": folder.joinpath(*name.split(".")) for name in ("common", "models")}
    packages |= {f"fairchem.core.models.{name}": folder / "models" / name for name in ("escn", "scn")}
    try:
        for name, path in packages.items():
            sys.modules[name] = _package(name, path)
        for name, members in _STAND_INS.items():
            sys.modules[name] = _module(name, members)
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "fairchem"]:
            del sys.modules[name]
        sys.modules.update(before)


def _package(name: str, path: Path) -> ModuleType:
    """A package whose ``__init__`` is not run."""
    package = ModuleType(name)
    package.__path__ = [str(path)]
    return package


def _module(name: str, members: dict[str, Any]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


class _NoGraph:
    """Stands in for the part of a model that finds neighbours: ours are given."""


def _unchanged(value: Any) -> Any:
    return value


def _decorator(*_: Any) -> Callable[[Any], Any]:
    return _unchanged


_STAND_INS: dict[str, dict[str, Any]] = {
    "fairchem.core.common.registry": {"registry": SimpleNamespace(register_model=_decorator)},
    "fairchem.core.common.utils": {"conditional_grad": _decorator},
    "fairchem.core.models.base": {
        "GraphModelMixin": _NoGraph,
        "BackboneInterface": type("BackboneInterface", (), {}),
        "HeadInterface": type("HeadInterface", (), {}),
    },
}
