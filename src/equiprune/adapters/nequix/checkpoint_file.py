"""Reading Nequix's files as data: a line of JSON, then arrays (``.nqx``) or a torch state dict (``.pt``).

See ``save_model`` and ``load_model`` in nequix/model.py and nequix/torch_impl/model.py. Nothing in a file is run:
arrays of pickled objects are refused, and a state dict is opened as tensors alone. What comes after the last weight
of a ``.nqx``, such as hyperparameters once more, is never looked at, unless it is another array of weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.lib import format as npy
from torch import Tensor

from equiprune.adapters.base import Checkpoint
from equiprune.adapters.nequix.architecture import NequixArchitecture, from_config
from equiprune.adapters.nequix.layouts import weight_layouts
from equiprune.adapters.nequix.leaves import Leaf, leaves, to_weights
from equiprune.adapters.nequix.published import PUBLISHED, licence_of
from equiprune.errors import CheckpointError, closest
from equiprune.files.atomic import sha256_of
from equiprune.files.download import fetch
from equiprune.files.torch_files import read_torch_file, unwrapped

PROVENANCE_KEY = "equiprune"
"""Key of the first line with licence and history; Nequix ignores keys that it does not ask for."""

ALIASES = {alias: description for alias, (description, _) in PUBLISHED.items()}

_ADVICE = "Give a .nqx or .pt that Nequix wrote."
_LONGEST_LINE = 1 << 26
"""Bytes of a first line that is looked into."""

_ARRAY, _ARCHIVE = b"\x93NUMPY", b"PK\x03\x04"
"""First bytes of what `numpy.save` and ``torch.save`` write."""

_SINGLE = np.dtype(np.float32)

_WHOLE: Mapping[str, tuple[int, int]] = {
    "n_layers": (1, 100),
    "lmax": (0, 11),
    "radial_basis_size": (1, 10_000),
    "radial_mlp_size": (1, 100_000),
    "radial_mlp_layers": (0, 100),
}
"""Smallest and largest value of hyperparameters that are whole numbers; e3nn has no l beyond 11."""
_POSITIVE = ("cutoff", "radial_polynomial_p", "mlp_init_scale", "avg_n_neighbors")
_FINITE = ("scale", "shift")
_YES_OR_NO = ("index_weights", "layer_norm")
_NEEDED = ("atomic_numbers", "hidden_irreps", *_WHOLE, *_POSITIVE, *_FINITE, *_YES_OR_NO)

_OF_TRAINING = {
    *("state_path", "resume_from", "finetune_from", "readout_initialization", "cache_dir", "kernel"),
    *("train_path", "valid_path", "val_path", "valid_frac", "extra_train_path", "extra_val_path", "extra_val_frac"),
    *("avg_n_edges", "avg_n_nodes", "max_n_edges", "max_n_nodes", "n_graph", "batch_size", "n_epochs"),
    *("optimizer", "learning_rate", "warmup_epochs", "warmup_factor", "grad_clip_norm", "weight_decay", "ema_decay"),
    *("energy_weight", "force_weight", "stress_weight", "hessian_weight", "loss_type", "log_every", "val_every"),
    *("extra_train_steps", "extra_energy_weight", "extra_force_weight", "extra_stress_weight"),
    *("checkpoint_grad_energy", "displacement"),
}
"""Keys of training (nequix/train.py, nequix/torch_impl/train.py, nequix/pft/train.py); no matter for the function."""
_KNOWN = {"atom_energies", PROVENANCE_KEY, *_NEEDED, *_OF_TRAINING}

_DERIVED = (
    ".tp.",
    ".tp_conv.",
    ".gate.",
    ".output_mask",
    "linear_1.bias",
    "linear_2.bias",
    "skip.bias",
    "readout.bias",
)
"""Parts of names of tensors that follow from the hyperparameters, or are empty."""


def recognised(path: Path) -> bool:
    """True for a file whose first line is JSON with the hyperparameters of Nequix."""
    try:
        with path.open("rb") as stream:
            line = _first_line(stream)
        return {"hidden_irreps", "radial_polynomial_p", "atomic_numbers"} <= json.loads(line).keys()
    except (CheckpointError, OSError, ValueError, AttributeError, RecursionError):  # of a file that may be anything
        return False


def read(source: str | Path, *, trust: bool = False) -> Checkpoint[NequixArchitecture]:
    """Open an alias or a file. Raises `CheckpointError`."""
    alias = str(source).lower()
    path = fetch(PUBLISHED[alias][1]) if alias in PUBLISHED else Path(source)
    config, weights = read_file(path, trust=trust)
    sha256 = sha256_of(path)
    licence, history = _provenance(config, path)
    if alias in PUBLISHED:
        licence = PUBLISHED[alias][1].licence
    return Checkpoint(from_config(config), weights, licence or licence_of(sha256), sha256, str(source), history)


def read_file(path: Path, *, trust: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The first line of a file and its weights, by their names in Nequix's torch model.

    Args:
        path: a ``.nqx`` or ``.pt``, told apart by their content.
        trust: run what a ``.pt`` contains; a ``.nqx`` contains nothing to run.

    Raises:
        CheckpointError: missing, cut off, foreign or unsafe file; hyperparameters that are missing, unknown or
            impossible; weights that do not fit them. The message says which.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    try:
        with path.open("rb") as stream:
            config = _config(_first_line(stream))
            start, magic = stream.tell(), stream.read(len(_ARRAY))
            stream.seek(start)
            arch = from_config(config)
            if magic.startswith(_ARRAY):
                return config, _from_arrays(arch, stream, path.stat().st_size)
    except OSError as error:
        raise CheckpointError(f"'{path}' cannot be read: {error.strerror}.") from error
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' cannot be opened: {error}") from error
    if not magic.startswith(_ARCHIVE):
        found = "no weights" if not magic else "neither numpy arrays nor a torch file"
        raise CheckpointError(f"'{path}' has {found} after its first line; it may be cut off. Get it again.")
    state = read_torch_file(path, trust=trust, what="Nequix model", advice=_ADVICE, start=start)
    return config, _from_state(arch, unwrapped(state), path)


def _first_line(stream: BinaryIO) -> bytes:
    """The first line of a file, if it may be JSON. Raises `CheckpointError`."""
    start = stream.read(1)
    if start != b"{":
        found = "is empty" if not start else "does not begin with a line of JSON"
        raise CheckpointError(f"it {found}. {_ADVICE}")
    line = start + stream.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise CheckpointError("its first line does not end; the file may be cut off. Get it again.")
    return line


def _config(line: bytes) -> dict[str, Any]:
    """The hyperparameters, each known and possible. Raises `CheckpointError`."""
    try:
        config = json.loads(line, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its first line is not JSON ({error}). {_ADVICE}") from error
    if missing := [key for key in _NEEDED if key not in config]:
        raise CheckpointError(f"its first line has no {', '.join(missing)}. {_ADVICE}")
    if unknown := sorted(config.keys() - _KNOWN):
        raise CheckpointError(
            f"its first line has {unknown}, which Nequix 0.4.5 does not know and which may change what the model "
            f"computes.{closest(unknown[0], _KNOWN)} {_ADVICE}"
        )
    _check_numbers(config)
    _check_elements(config)
    return config


def _refused(constant: str) -> NoReturn:
    """JSON has no NaN and no infinity, but Python reads them."""
    raise ValueError(f"it has {constant} for a number")


def _check_numbers(config: Mapping[str, Any]) -> None:
    for key, (lowest, highest) in _WHOLE.items():
        if type(config[key]) is not int or not lowest <= config[key] <= highest:
            raise _impossible(config, key, f"a whole number from {lowest} to {highest}")
    for key in _POSITIVE:
        if not _is_number(config[key]) or config[key] <= 0:
            raise _impossible(config, key, "a positive number")
    for key in _FINITE:
        if not _is_number(config[key]):
            raise _impossible(config, key, "a number")
    for key in _YES_OR_NO:
        if type(config[key]) is not bool:
            raise _impossible(config, key, "true or false")
    if type(config["hidden_irreps"]) is not str:
        raise _impossible(config, "hidden_irreps", "text such as '128x0e + 64x1o'")


def _check_elements(config: Mapping[str, Any]) -> None:
    elements, energies = config["atomic_numbers"], config.get("atom_energies", {})
    known = range(1, len(chemical_symbols))
    if (
        type(elements) is not list
        or not elements
        or not all(type(z) is int and z in known for z in elements)
        or sorted(set(elements)) != elements  # Nequix counts elements by rising number, whatever their order
    ):
        raise _impossible(config, "atomic_numbers", f"a list of rising numbers from 1 to {known[-1]}")
    if type(energies) is not dict or not all(map(_is_number, energies.values())):
        raise _impossible(config, "atom_energies", "energies in eV by atomic number")
    if energies and (missing := sorted({str(z) for z in elements} - energies.keys(), key=int)):
        raise CheckpointError(f"its atom_energies lack {', '.join(missing)}, which its atomic_numbers have. {_ADVICE}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _impossible(config: Mapping[str, Any], key: str, allowed: str) -> CheckpointError:
    text = json.dumps(config[key])
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return CheckpointError(f"its {key} is {shown}; it must be {allowed}. Get the file again.")


def _provenance(config: Mapping[str, Any], path: Path) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """Licence and history of a file that equiprune wrote; empty for another."""
    written = config.get(PROVENANCE_KEY, {"licence": "", "history": []})
    try:
        licence, history = written["licence"], written["history"]
        if not isinstance(licence, str) or not all(isinstance(step, dict) for step in history):
            raise TypeError("no text and list")
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"'{path}' is damaged: its licence and history cannot be read ({error}).") from error
    return licence, tuple(history)


def _from_arrays(arch: NequixArchitecture, stream: BinaryIO, size: int) -> dict[str, Tensor]:
    """The weights that follow the first line of a ``.nqx``. Raises `CheckpointError`."""
    listed = leaves(arch)
    arrays = [_array(stream, leaf, f"array {k} of {len(listed)}", size) for k, leaf in enumerate(listed, 1)]
    if _another(stream):
        raise CheckpointError(f"it has more arrays than the {len(listed)} of its hyperparameters. {_ADVICE}")
    return to_weights(arch, arrays)


def _array(stream: BinaryIO, leaf: Leaf, place: str, size: int) -> np.ndarray:
    shape, in_columns, dtype = _header(stream, place)
    if dtype.hasobject:
        raise CheckpointError(f"its {place} is made of pickled objects, which no weight is; nothing was run. {_ADVICE}")
    if shape != leaf.shape or dtype != _SINGLE:
        raise CheckpointError(
            f"its weights do not fit its first line: {place} ({leaf.weight}) has shape {shape} of {dtype}, "
            f"not {leaf.shape} of {_SINGLE}. Give the file as Nequix wrote it."
        )
    if size - stream.tell() < leaf.size * _SINGLE.itemsize:
        raise CheckpointError(_cut_off(place))
    numbers = np.frombuffer(stream.read(leaf.size * _SINGLE.itemsize), _SINGLE)
    return numbers.reshape(shape, order="F" if in_columns else "C")


def _header(stream: BinaryIO, place: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of the next array."""
    start = stream.tell()
    try:
        version = npy.read_magic(stream)
        return npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)
    except Exception as error:  # a damaged header can break numpy's parser anywhere
        stream.seek(start)
        if _ARRAY.startswith(stream.read(len(_ARRAY))):
            raise CheckpointError(_cut_off(place)) from error
        raise CheckpointError(f"its {place} is not as numpy.save writes arrays without objects. {_ADVICE}") from error


def _cut_off(place: str) -> str:
    return f"it is cut off or damaged in {place}. Get it again."


def _another(stream: BinaryIO) -> bool:
    """True if what follows is one more array of numbers, neither a single number nor objects."""
    try:
        shape, _, dtype = _header(stream, "rest")
    except CheckpointError:
        return False
    return bool(shape) and not dtype.hasobject


def _from_state(arch: NequixArchitecture, state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights of a state dict of Nequix's torch model. Raises `CheckpointError`."""
    expected = {name: layout.shape for name, layout in weight_layouts(arch).items()}
    found = {
        str(name): _described(value)
        for name, value in state.items()
        if name in expected or not any(part in str(name) for part in _DERIVED)
    }
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        first = [f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'expected')}" for name in wrong[:3]]
        raise CheckpointError(
            f"'{path}' cannot be opened: its weights do not fit its first line: {'; '.join(first)}"
            f"{'; ...' if len(wrong) > 3 else ''}. Give the file as Nequix wrote it."
        )
    return {name: state[name].detach().clone() for name in expected}


def _described(value: Any) -> tuple[int, ...] | str:
    """The shape of real numbers; words for anything else."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return tuple(value.shape) if value.dtype in (torch.float32, torch.float64) else f"of {value.dtype}"
