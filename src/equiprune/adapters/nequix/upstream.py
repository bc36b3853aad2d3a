"""Nequix's own torch classes out of its package, without the rest of it.

The package imports jax when anything of it is imported, and its torch part changes e3nn's and torch's settings for the
whole program. The two files that make a model need torch, e3nn, numpy and scipy alone, and are imported alone here.
"""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from equiprune.adapters.bare_imports import bare_packages
from equiprune.errors import CheckpointError

_INSTALL = (
    "Nequix models need nequix 0.4.5 or later. Install it with: pip install 'equiprune[nequix]' and then "
    "pip install --no-deps 'nequix>=0.4.5,<0.5'"
)


@cache
def model_file() -> Any:
    """Upstream's module ``nequix.torch_impl.model``.

    Raises:
        CheckpointError: nequix or e3nn is not installed; the line to type is in the message.
    """
    folder = _folder()
    packages = {"nequix": folder, "nequix.torch_impl": folder / "torch_impl"}
    with bare_packages(packages), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("nequix.torch_impl.model")


def _folder() -> Path:
    """Folder of the installed package."""
    try:
        found = distribution("nequix")
        import e3nn  # noqa: F401
        import scipy  # noqa: F401
    except (PackageNotFoundError, ImportError) as error:
        raise CheckpointError(f"{_INSTALL}. ({error})") from error
    folder = Path(str(found.locate_file("nequix")))
    if not (folder / "torch_impl" / "model.py").is_file():
        raise CheckpointError(f"nequix {found.version} has no model for torch. {_INSTALL}.")
    return folder
