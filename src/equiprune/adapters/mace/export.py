"""Writing MACE's ``.model`` files: pickled modules that stock tools open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from equiprune.adapters.base import Checkpoint, load_weights
from equiprune.adapters.mace import build, checkpoint_file
from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.adapters.mace.checkpoint_file import PROVENANCE
from equiprune.adapters.precision import dtype_name

_E3NN = "0.4.4"
"""The release that mace-torch 0.3 pins; later ones pickle their modules differently."""


def why_not(_arch: MaceArchitecture | None = None) -> str:
    """The reason why the installed e3nn cannot pickle a module that stock MACE opens; empty when it can."""
    if version("e3nn") == _E3NN:
        return ""
    return (
        f"e3nn {version('e3nn')} is installed, stock MACE cannot open what it pickles and needs e3nn {_E3NN}. "
        "Export it where equiprune[mace] is installed"
    )


def write(checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
    """A ``.model`` in the precision of the weights, for MACECalculator and the ``mace_*`` commands."""
    module: Any = build.build(checkpoint.architecture, checkpoint.dtype)
    load_weights(module, checkpoint.weights)
    record = {"licence": checkpoint.licence, "history": [dict(step) for step in checkpoint.history]}
    setattr(module, PROVENANCE, json.dumps(record))  # text, which TorchScript can carry
    buffer = BytesIO()
    torch.save(module, buffer)
    path.write_bytes(buffer.getvalue())  # a full disk is then an OSError, as everywhere
    return (path,)


def stock_energies(path: Path, structures: Sequence[Atoms], head: str | None) -> list[float]:
    """Energies (eV) by the stock ``MACECalculator`` after opening ``path``, in the precision of the file."""
    precision = dtype_name(checkpoint_file.read(path).dtype)
    with build.upstream(torch.get_default_dtype()):
        from mace.calculators import MACECalculator

        chosen = {"head": head} if head is not None else {}
        calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype=precision, **chosen)
        return [float(calculator.get_potential_energy(atoms)) for atoms in structures]
