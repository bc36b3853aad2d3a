"""Reading NequIP's ``.nequip.zip`` packages as data: of the code in them nothing is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from equiprune.adapters.base import Checkpoint
from equiprune.adapters.nequip.architecture import NequIPArchitecture
from equiprune.adapters.nequip.layouts import ENERGIES, weight_layouts
from equiprune.adapters.nequip.package_file import KINDS_OF_ERRORS, architecture_of
from equiprune.errors import CheckpointError
from equiprune.files.atomic import sha256_of
from equiprune.files.torch_packages import Package, resources

SUFFIX = ".nequip.zip"
METADATA, MODEL, CONFIG = "model/package_metadata.txt", "model/eager_model.pkl", "model/config.yaml"
PROVENANCE = "model/equiprune.json"
"""File in exported packages: licence and history, as JSON."""
VERSIONS = (1, 2)
"""Versions of the format that are read, ``package_version_id``."""
ONLY = "sole_model"
"""Upstream's name of the model in a package that has one."""

_PACKAGES = frozenset({"nequip", "e3nn", "torch", "opt_einsum_fx"})
_ADVICE = "Give a package that 'nequip-package build' of nequip 0.15 or later wrote."


def recognised(path: Path) -> bool:
    """True for a package of the NequIP framework; `read` says whether it is one that can be pruned."""
    return {MODEL, CONFIG} <= resources(path)


def read(source: str | Path, *, trust: bool = False) -> Checkpoint[NequIPArchitecture]:
    """Open a package; ``trust`` changes nothing. Raises `CheckpointError` naming what cannot be pruned exactly."""
    path = Path(source)
    if path.suffix == ".ckpt":
        raise CheckpointError(
            f"'{path}' is a checkpoint of a training, which is read together with the data of that training. Make a "
            f"package of it: nequip-package build {path.name} {path.stem}{SUFFIX}"
        )
    package = Package(path)
    _check_version(package)
    model = _only_model(package)
    try:
        architecture = architecture_of(model)
        weights = _weights(architecture, dict(model.tensors()))
        provenance = json.loads(package.text(PROVENANCE)) if PROVENANCE in package.names else {"licence": "unknown"}
        licence, history = str(provenance["licence"]), tuple(provenance.get("history", ()))
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' cannot be pruned: {error}") from error
    except KINDS_OF_ERRORS as error:
        raise CheckpointError(
            f"'{path}' is a package, but not as nequip writes them ({type(error).__name__}: {error}). {_ADVICE}"
        ) from error
    return Checkpoint(architecture, weights, licence, sha256_of(path), str(source), history)


def _check_version(package: Package) -> None:
    if not {METADATA, MODEL} <= package.names:
        raise CheckpointError(f"'{package.path}' has no {METADATA} beside {MODEL}. {_ADVICE}")
    try:
        version = yaml.safe_load(package.text(METADATA))["package_version_id"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise CheckpointError(f"'{package.path}' does not say of which version it is. {_ADVICE}") from error
    if version not in VERSIONS:
        raise CheckpointError(
            f"'{package.path}' is in version {version} of the format of NequIP's packages; this version of equiprune "
            f"reads {' and '.join(map(str, VERSIONS))}. Update equiprune, or write it again with nequip 0.19."
        )


def _only_model(package: Package) -> Any:
    models: Mapping[str, Any] = package.module(MODEL, _PACKAGES).state.get("_modules") or {}
    if list(models) != [ONLY]:
        raise CheckpointError(
            f"'{package.path}' holds the models {', '.join(models) or 'none'}; packages of one can be pruned."
        )
    return models[ONLY]


def _weights(arch: NequIPArchitecture, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    layouts = weight_layouts(arch)
    if missing := sorted(layouts.keys() - tensors.keys()):
        raise CheckpointError(f"it lacks the weights {missing[:3]}{'...' if len(missing) > 3 else ''}.")
    weights = {}
    for name, layout in layouts.items():
        one_for_all = name.startswith(ENERGIES) and tensors[name].shape == (1, 1)
        weights[name] = (tensors[name].expand(layout.shape) if one_for_all else tensors[name]).clone()
        if tuple(weights[name].shape) != layout.shape:
            raise CheckpointError(f"{name} has shape {tuple(weights[name].shape)}, expected {layout.shape}.")
    return weights
