"""Reading fairchem's ``.pt`` files of eSCN models without running what they contain.

A checkpoint is a pickle of dictionaries, tensors and a few numpy numbers, opened as such (see
`equiprune.files.torch_files`): ``config`` with the arguments of upstream's constructor, ``state_dict``,
``normalizers``, and of a run that can go on its optimiser and moving averages.

Where a run kept moving averages of its weights (``ema`` in the file and ``optim.ema_decay`` in its config), those are
the model: with them fairchem's trainer validates, predicts and writes ``best_checkpoint.pt`` (``predict`` and ``save``
in trainers/ocp_trainer.py and base_trainer.py). Only the calculator of fairchem-core 1.10 leaves them out: it opens
files for inference, which skips making the averages that a file could fill (``load_checkpoint`` in base_trainer.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equiprune.adapters.base import Checkpoint
from equiprune.adapters.escn import upstream
from equiprune.adapters.escn.architecture import (
    MOST_ELEMENTS,
    EscnArchitecture,
    Grid,
    Smearing,
    message_grid,
    node_grid,
)
from equiprune.adapters.escn.layouts import weight_layouts
from equiprune.blocks import WeightLayout
from equiprune.errors import CheckpointError
from equiprune.files.atomic import sha256_of
from equiprune.files.outline import entry, outline
from equiprune.files.torch_files import read_torch_file, unwrapped

LICENCE = "unknown: see where the file came from"
"""Of a file that equiprune did not write: fairchem's files do not say."""

PROVENANCE_KEY = "equiprune"
"""Where exported checkpoints carry licence, history and the numbers of their layers, as JSON text."""

DERIVED = "distance_expansion.offset"
"""Ends the name of every buffer that follows from the hyperparameters."""

_ADVICE = "Give a .pt of an eSCN model that fairchem-core 1 (or ocp) wrote."
_UMA = f"it is a checkpoint of fairchem-core 2 (UMA, eSEN), which is another model. {_ADVICE}"


def recognised(path: Path) -> bool:
    """True for weights with a config of fairchem's that names escn, in the old layout or the new one."""
    content = outline(path)
    model = entry(content, "config", "model")
    return isinstance(entry(content, "state_dict"), dict) and "escn" in (model, entry(model, "name"))


def read(source: str | Path, *, trust: bool = False) -> Checkpoint:
    """Open a file. Raises `CheckpointError`, naming what this adapter does not read."""
    path = Path(source)
    try:
        content = read_torch_file(path, trust=trust, what="checkpoint of fairchem-core 1", advice=_ADVICE)
    except CheckpointError as error:
        if "fairchem.core.units" in str(error):
            raise CheckpointError(f"'{path}' cannot be opened: {_UMA}") from error
        raise
    try:
        return _interpreted(content, path)
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' cannot be opened: {error}") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"'{path}' is a torch file but not an eSCN checkpoint ({reason}). {_ADVICE}") from error


def _interpreted(content: Mapping[str, Any], path: Path) -> Checkpoint:
    _check_family(content)
    architecture = _architecture(_arguments(content["config"]), content)
    weights = _weights(architecture, content)
    provenance = json.loads(content.get(PROVENANCE_KEY, "{}"))
    if "layers" in provenance:
        architecture = _numbered(architecture, tuple(provenance["layers"]))
    return Checkpoint(
        architecture,
        weights,
        provenance.get("licence", LICENCE),
        sha256_of(path),
        str(path),
        tuple(provenance.get("history", ())),
    )


def _check_family(content: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` unless the file holds weights of a model that upstream registers as ``escn``."""
    if "model_config" in content:
        raise CheckpointError(_UMA)
    name = _model(content["config"]).get("name")
    if "escnmd" in str(name) or "uma" in str(name):
        raise CheckpointError(_UMA)
    if name == "hydra":
        raise CheckpointError(
            "its model is 'hydra', a backbone with heads beside it. Only 'escn', the whole model in one, is supported; "
            f"train that. {_ADVICE}"
        )
    if name != "escn":
        raise CheckpointError(f"its model is '{name}'; only 'escn' is supported. {_ADVICE}")
    if not content.get("state_dict"):
        raise CheckpointError(f"it has a config but no weights. {_ADVICE}")


def _model(config: Mapping[str, Any]) -> dict[str, Any]:
    """Name and arguments of a model, from the old layout of configs and the new one."""
    model = config["model"]
    return {**config.get("model_attributes", {}), "name": model} if isinstance(model, str) else dict(model)


def _arguments(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """All that upstream's constructor takes: given, or its default.

    ``use_pbc`` has no meaning here: every structure says itself in which directions it is periodic.
    """
    given = {key: value for key, value in _model(config).items() if key != "name"}
    known = {key: parameter.default for key, parameter in signature(upstream.classes().eSCN).parameters.items()}
    if unknown := sorted(given.keys() - known.keys()):
        raise CheckpointError(f"its config has {unknown}, which eSCN of fairchem-core 1.10 does not know. {_ADVICE}")
    return known | given


def _architecture(given: Mapping[str, Any], content: Mapping[str, Any]) -> EscnArchitecture:
    lmax, mmax = _only("lmax_list", given, upstreams=6), _only("mmax_list", given, upstreams=2)
    if not 0 <= mmax <= lmax:
        raise CheckpointError(f"its mmax is {mmax}; it can be 0 to {lmax}, its lmax. {_ADVICE}")
    if not given["regress_forces"]:
        raise CheckpointError(
            f"it has no forces (regress_forces is false); only models with them are supported. {_ADVICE}"
        )
    if given["max_neighbors"] <= 0:
        raise CheckpointError(
            f"its max_neighbors is {given['max_neighbors']}, which upstream takes as no limit; that is not supported. "
            "Give a positive number in its config."
        )
    if given["distance_function"] not in set(Smearing):
        raise CheckpointError(
            f"its distance_function is '{given['distance_function']}'; supported are {', '.join(Smearing)}."
        )
    if not 1 < given["max_num_elements"] <= MOST_ELEMENTS:
        raise CheckpointError(f"its max_num_elements is {given['max_num_elements']}; it can be 2 to {MOST_ELEMENTS}.")
    shared = [Grid(given["resolution"], given["resolution"])] * 2 if given["resolution"] else None
    messages, nodes = shared or (message_grid(lmax, mmax), node_grid(lmax))
    energy_mean, energy_scale, forces_scale = _normalizers(content)
    return EscnArchitecture(
        elements=tuple(range(1, given["max_num_elements"])),
        cutoff=float(given["cutoff"]),
        max_neighbors=int(given["max_neighbors"]),
        lmax=lmax,
        mmax=mmax,
        layers=tuple(range(given["num_layers"])),
        sphere_channels=int(given["sphere_channels"]),
        hidden_channels=int(given["hidden_channels"]),
        edge_channels=int(given["edge_channels"]),
        sphere_samples=int(given["num_sphere_samples"]),
        smearing=Smearing(given["distance_function"]),
        smearing_width=float(given["basis_width_scalar"]),
        resolution=float(given["distance_resolution"]),
        message_grid=messages,
        node_grid=nodes,
        energy_mean=energy_mean,
        energy_scale=energy_scale,
        forces_scale=forces_scale,
    )


def _only(name: str, given: Mapping[str, Any], *, upstreams: int) -> int:
    """The entry of a list with one for each resolution; upstream's default where nothing is given."""
    values = [upstreams] if given[name] is None else list(given[name])
    if len(values) != 1:
        raise CheckpointError(f"its {name} is {values}. Only features of one resolution, such as [6], are supported.")
    return int(values[0])


def _numbered(architecture: EscnArchitecture, layers: tuple[int, ...]) -> EscnArchitecture:
    """With the numbers that layers had in the unpruned model."""
    if len(layers) != len(architecture.layers) or layers[0] != 0 or list(layers) != sorted(set(layers)):
        raise CheckpointError(
            f"it is damaged: it has {len(architecture.layers)} layers numbered {layers}. Get it again."
        )
    return replace(architecture, layers=layers)


def _normalizers(content: Mapping[str, Any]) -> tuple[float, float, float]:
    """Mean and scale of energies (eV), scale of forces (eV/Angstrom); those of the file count, not of its config.

    Raises:
        CheckpointError: what upstream would add and this adapter cannot, or numbers that are not finite.
    """
    states = {_TARGETS.get(key, key): state for key, state in content["normalizers"].items()}
    energy_mean, energy_scale = _mean_and_scale(states.get("energy"))
    forces_mean, forces_scale = _mean_and_scale(states.get("forces"))
    references = (content.get("elementrefs") or {}).values()
    if forces_mean or any(torch.as_tensor(values).any() for state in references for values in state.values()):
        raise CheckpointError(f"it adds energies of elements or a mean of forces, which is not supported. {_ADVICE}")
    if not all(map(isfinite, (energy_mean, energy_scale, forces_scale))):
        raise CheckpointError(f"its normalizers are not finite numbers: {states}. Get it again.")
    return energy_mean, energy_scale, forces_scale


_TARGETS = {"target": "energy", "grad_target": "forces"}
"""Older names of what is normalised (``load_checkpoint`` in trainers/base_trainer.py)."""


def _mean_and_scale(state: Mapping[str, Any] | None) -> tuple[float, float]:
    """``mean`` of a normalizer, and ``rmsd`` or, in older files, ``std`` (modules/normalization/normalizer.py)."""
    if state is None:
        return 0.0, 1.0
    return float(state["mean"]), float(state["std"] if "std" in state else state["rmsd"])


def _weights(architecture: EscnArchitecture, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """By name, in the order of upstream's module; a wrapper for several processes has put ``module.`` before it."""
    named = unwrapped(content["state_dict"])
    layouts = weight_layouts(architecture)
    weights = {name: tensor for name, tensor in named.items() if not name.endswith(DERIVED)}
    _check_fit(weights, layouts)
    weights |= _averages(content, [name for name, layout in layouts.items() if layout.trainable])
    _check_fit(weights, layouts)
    return {name: weights[name].detach().clone() for name in layouts}


def _averages(content: Mapping[str, Any], names: list[str]) -> dict[str, Tensor]:
    """Moving averages, which the file has without names, of the weights that are trained, in their order.

    See ``__init__`` in modules/exponential_moving_average.py.
    """
    if not content.get("ema") or not content["config"].get("optim", {}).get("ema_decay"):
        return {}
    averages = content["ema"]["shadow_params"]
    if len(averages) != len(names):
        raise CheckpointError(
            f"it has {len(averages)} moving averages ('ema') of {len(names)} weights. Write it again without them."
        )
    return dict(zip(names, averages, strict=True))


def _check_fit(weights: Mapping[str, Tensor], layouts: Mapping[str, WeightLayout]) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    expected = {name: layout.shape for name, layout in layouts.items()}
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        first = [f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'expected')}" for name in wrong[:3]]
        raise CheckpointError(
            f"its weights do not fit its config: {'; '.join(first)}{'; ...' if len(wrong) > 3 else ''}. "
            "Give the file as fairchem wrote it."
        )
