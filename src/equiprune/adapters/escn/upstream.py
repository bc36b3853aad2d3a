"""eSCN's own classes out of fairchem-core 1.10, without what that package demands beside them.

fairchem-core 1.10 was released for torch 2.4 and numpy 1; its model needs torch and e3nn only and runs with later ones.
The package around it imports a trainer's whole world (PyTorch Geometric, compiled scatter kernels, Hugging Face). Here
its files about eSCN are imported alone: three imports of theirs that the model does not need to compute are given
stand-ins, and afterwards nothing of it stays in ``sys.modules``, so that a program that imports fairchem for itself
gets all of it.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from equiprune.adapters.bare_imports import bare_packages
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
    with bare_packages(_packages(folder), _STAND_INS), warnings.catch_warnings():
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


def _packages(folder: Path) -> dict[str, Path]:
    """Folders of the packages that hold the files about eSCN."""
    packages = {"fairchem": folder.parent, "fairchem.core": folder}
    packages |= {f"fairchem.core.{name}": folder.joinpath(*name.split(".")) for name in ("common", "models")}
    return packages | {f"fairchem.core.models.{name}": folder / "models" / name for name in ("escn", "scn")}


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
