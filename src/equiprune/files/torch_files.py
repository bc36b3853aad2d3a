"""Opening torch files as data: a pickle that asks for more than dictionaries, tensors and numpy numbers is refused."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from equiprune.errors import CheckpointError

_FORBIDDEN = ("unsupported global", "trying to", "can only build", "can only create")
"""How torch's weights-only reader says that a pickle asks for more than data."""


def read_torch_file(path: Path, *, trust: bool, what: str, advice: str, start: int = 0) -> dict[str, Any]:
    """The dictionary in a file that ``torch.save`` wrote.

    Args:
        path: what to open.
        trust: run what the pickle contains; only for files whose origin you trust.
        what: the kind of file expected, for messages ("SevenNet checkpoint").
        advice: where such a file comes from, a sentence.
        start: bytes of something else before it.

    Raises:
        CheckpointError: missing, truncated, not a dictionary, or a pickle that runs code.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    if is_torchscript(path):
        raise CheckpointError(
            f"'{path}' is a TorchScript archive, a compiled model such as those exported for LAMMPS. It runs, and "
            f"cannot be changed. {advice}"
        )
    try:
        with torch.serialization.safe_globals(_allowed()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of a pickle that is refused or trusted anyway
            source = BytesIO(path.read_bytes()[start:]) if start else path
            content = torch.load(source, map_location="cpu", weights_only=not trust)
    except Exception as error:  # torch and the pickle inside have their own exceptions
        reason = _reason(error)
        if isinstance(error, UnpicklingError) and any(word in reason.lower() for word in _FORBIDDEN):
            raise CheckpointError(
                f"'{path}' was not opened: it is a pickle that runs code, which no {what} needs to "
                f"({reason}). If you trust where it comes from, add `trust`."
            ) from error
        raise CheckpointError(
            f"'{path}' is not a readable torch file; it may be truncated ({reason}). Get it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"'{path}' holds a {type(content).__name__}, not a {what}. {advice}")
    return content


def is_torchscript(path: Path) -> bool:
    """True for an archive that ``torch.jit.save`` wrote: a program beside its data."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


_ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts of names that torch.compile, FSDP and checkpointing of activations put before what they wrap."""


def unwrapped(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state dict without the parts of names that come from modules that only hold another one.

    Those of torch.compile, FSDP and checkpointing go wherever they are. ``module.`` of DDP, and of averages of weights
    (which also count, as ``n_averaged``), goes where all names begin with it: elsewhere it may be part of a name.

    >>> dict(unwrapped({"module._orig_mod.weight": 1, "module.layer._orig_mod.bias": 2}))
    {'weight': 1, 'layer.bias': 2}
    """
    named = {_without(name): value for name, value in state.items() if name != "n_averaged"}
    while named and all(name.startswith("module.") for name in named):
        named = {name.removeprefix("module."): value for name, value in named.items()}
    return named


def _without(name: str) -> str:
    for part in _ANYWHERE:
        name = name.replace(part, "")
    return name


def _allowed() -> list[Any]:
    """Globals of numpy's arrays and numbers, under the names that numpy 1 and 2 give them."""
    allowed: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool"))]
    for value in (np.empty(0), np.float64(0)):
        make: Any = value.__reduce__()[0]
        allowed += [make, (make, f"numpy.core.multiarray.{make.__name__}")]
    return allowed


def _reason(error: Exception) -> str:
    """The line of torch's page of advice that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next((line for line in lines if any(w in line.lower() for w in ("unsupported", *_FORBIDDEN))), "")
    telling = telling or (lines[0] if lines else "")
    return ": ".join(filter(None, (type(error).__name__, telling.partition(". ")[0][:160].rstrip("."))))
