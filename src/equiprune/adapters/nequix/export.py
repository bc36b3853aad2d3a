"""Writing Nequix files that stock tools open, and the energies that those give."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters.base import Checkpoint, load_weights, species
from equiprune.adapters.nequix import upstream
from equiprune.adapters.nequix.architecture import NequixArchitecture, from_config, to_config
from equiprune.adapters.nequix.build import build
from equiprune.adapters.nequix.checkpoint_file import PROVENANCE_KEY, read, read_file
from equiprune.adapters.nequix.leaves import ENERGIES, to_arrays
from equiprune.errors import OutputError
from equiprune.files.atomic import replacing
from equiprune.structures.graph import AtomicGraph

_remarks = logging.getLogger("equiprune")
_QUICK_JAX = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}
"""Environment of a process that evaluates a model once, where compiling it takes nearly all the time."""

_STOCK = ("jax", "e3nn_jax", "equinox", "jraph", "matscipy")
"""Packages that Nequix's calculator imports, beside those of its torch model."""


def why_not(arch: NequixArchitecture) -> str:
    """The reason why Nequix's constructor cannot be told of this model; empty when it can."""
    return arch.why_not_stock and f"{arch.why_not_stock}. Prune its elements and first channels alike"


def write(checkpoint: Checkpoint[NequixArchitecture], path: Path) -> tuple[Path, ...]:
    """A ``.nqx`` for Nequix's JAX model, or a ``.pt`` for its torch model; licence and history are in its first line.

    Numbers are written in float32, which is what upstream's models have.

    Raises:
        OutputError: the JAX model cannot hold what the torch model can.
    """
    arch = checkpoint.architecture
    weights = {name: weight.detach().cpu().float() for name, weight in checkpoint.weights.items()}
    energies = dict(zip(arch.elements, weights[ENERGIES].tolist(), strict=True))
    provenance = {"licence": checkpoint.licence, "history": [dict(step) for step in checkpoint.history]}
    config = {**to_config(arch, energies), PROVENANCE_KEY: provenance}
    (write_nqx if path.suffix == ".nqx" else write_pt)(path, config, weights)
    return (path,)


def write_nqx(path: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write the file of Nequix's JAX model in one step.

    Args:
        path: replaced if it exists.
        config: the first line, hyperparameters as `equiprune.adapters.nequix.architecture.to_config` names them.
        weights: by their names in the torch model, float32.

    Raises:
        OutputError: the disk is full or the folder takes no files; or the JAX model cannot be of these hyperparameters.
    """
    arch = from_config(config)
    if reason := why_not_jax(arch):
        raise OutputError(f"This model cannot be written as '.nqx': {reason}. Write it as '.pt'.")
    content = BytesIO()
    for array in to_arrays(arch, weights):
        np.save(content, array, allow_pickle=False)
    _write(path, config, content.getvalue())


def write_pt(path: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write the file of Nequix's torch model in one step; arguments and errors as for `write_nqx`.

    Only weights are written: what follows from hyperparameters is made anew by ``load_model``
    (nequix/torch_impl/model.py), which lets it be missing.
    """
    content = BytesIO()
    torch.save({name: weight.detach().cpu().clone() for name, weight in weights.items()}, content)
    _write(path, config, content.getvalue())


def _write(path: Path, config: Mapping[str, Any], weights: bytes) -> None:
    line = json.dumps(config, allow_nan=False).encode() + b"\n"
    with replacing(path) as temporary:
        temporary.write_bytes(line + weights)


def why_not_jax(arch: NequixArchitecture) -> str:
    """The reason why Nequix's JAX model cannot be built; empty when it can.

    Its ``linear_2`` leaves out irreps that no message has, and then cannot be added to the skip connection
    (nequix/model.py, ``NequixConvolution``).
    """
    for t in range(arch.layers):
        sent = {ir_out for _, ir in arch.sent(t) for _, edge in arch.edge_attrs for ir_out in ir * edge}
        if lacking := [str(ir) for _, ir in arch.made(t) if ir not in sent]:
            return f"no message of layer {t} has {', '.join(lacking)}, which Nequix's JAX model does not allow"
    return ""


def stock_energies(path: Path, structures: Sequence[Atoms], _head: str | None = None) -> list[float]:
    """Energies (eV) by stock Nequix after it opened a file.

    A ``.nqx`` is opened by ``NequixCalculator`` with its JAX model (`equiprune.adapters.nequix.stock`), a ``.pt`` by
    ``load_model`` of its torch model. Where packages of JAX are missing, the weights of a ``.nqx`` are evaluated by the
    torch model, which is said.

    Raises:
        OutputError: stock Nequix does not open the file.
    """
    if path.suffix == ".nqx" and all(find_spec(package) is not None for package in _STOCK):
        return _by_jax(path, structures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".pt":
            module, _ = upstream.model_file().load_model(path)
            arch = from_config(read_file(path)[0])
        else:
            _remarks.warning(
                "'%s' was compared by Nequix's torch model: for its JAX model, pip install %s.",
                path,
                " ".join(_STOCK).replace("_", "-"),
            )
            checkpoint = read(path)
            arch, module = checkpoint.architecture, build(checkpoint.architecture, torch.float32)
            load_weights(module, checkpoint.weights)
        return _by_torch(module, arch, structures)


def _by_torch(module: Any, arch: NequixArchitecture, structures: Sequence[Atoms]) -> list[float]:
    graph = AtomicGraph.from_structures(structures, arch.cutoff, torch.float32)
    receivers, senders = graph.edge_index
    elements = species(arch, graph.numbers)
    with torch.no_grad():
        atomic = module.node_energies(graph.edge_vectors(), elements, senders, receivers)[:, 0]
    return atomic.new_zeros(len(structures)).index_add(0, graph.structure_of_atom, atomic).tolist()


def _by_jax(path: Path, structures: Sequence[Atoms]) -> list[float]:
    given = [
        {name: value.tolist() for name, value in atoms.arrays.items() if name in ("numbers", "positions")}
        | {"cell": atoms.cell.tolist(), "pbc": atoms.pbc.tolist()}
        for atoms in structures
    ]
    command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.stock", str(path.absolute())]
    done = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, env={**_QUICK_JAX, **os.environ}, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OutputError(f"Nequix's own calculator does not open '{path}' ({reason}). Please report this.")
    return json.loads(done.stdout.splitlines()[-1])
