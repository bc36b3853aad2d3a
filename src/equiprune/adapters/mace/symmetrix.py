"""Symmetrix-XL: native code for MACE on a CPU, of the package ``symmetrix-xl``, which converts the models itself.

It takes models of one width throughout, with spherical harmonics to l = 3 and one or two interactions. Radial functions
become cubic splines, so that its numbers are upstream's to the error of these and not to rounding.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from equiprune.adapters.base import Checkpoint
from equiprune.adapters.engines import Evaluator, FileEngine, Limits
from equiprune.adapters.evaluation import Outputs
from equiprune.adapters.mace import build, export
from equiprune.adapters.precision import dtype_name
from equiprune.errors import TargetError
from equiprune.structures.graph import AtomicGraph

_POINTS = 1024
"""Points of the splines. With the converter's own 256, forces of water were off by 1e-3 eV/Angstrom."""


class SymmetrixEngine(FileEngine):
    """Symmetrix-XL on a CPU, compiled for the model when it is first met (this needs a C++20 compiler)."""

    name = "symmetrix"
    suffix = ".symmetrix.json"
    packages = MappingProxyType({"symmetrix": "symmetrix-xl"})
    install = "pip install 'equiprune[symmetrix]'"
    limits = Limits(energy=1e-6, forces=1e-4, derivative=1e-4)
    measured = "docs/results.md, MACE"

    def is_made_for_this_machine(self) -> bool:
        return platform.system() == "Linux" and platform.machine() == "x86_64"

    def write(self, checkpoint: Checkpoint, elements: Collection[int], head: str | None, path: Path) -> None:
        if reason := checkpoint.architecture.why_not_stock:
            raise TargetError(
                f"Symmetrix takes models of one width throughout: {reason} in this one. Prune to equal channels "
                "(`channels` 64), and cut l or order in all interactions alike."
            )
        with _refused(), build.upstream(torch.float64), TemporaryDirectory() as folder:
            from symmetrix.extract_mace_data import extract_mace_data

            stock = Path(folder) / "stock.model"
            export.write(checkpoint, stock)
            converted = extract_mace_data(stock, species=sorted(elements), head=head, num_spline_points=_POINTS)
        path.write_text(json.dumps(converted, separators=(",", ":")), encoding="utf-8")

    def opened(self, path: Path, dtype: torch.dtype) -> Evaluator:
        with _threads_of_torch(), _refused(), build.upstream(torch.float64):
            from symmetrix import Symmetrix

            return _Native(Symmetrix(path, dtype=dtype_name(dtype)).evaluator)


@contextmanager
def _refused() -> Iterator[None]:
    """Whatever the converter and the compiler raise, and they fail in many ways, becomes a `TargetError`."""
    try:
        yield
    except Exception as error:
        message = " ".join(str(error).split())[:400]
        raise TargetError(f"Symmetrix cannot evaluate this model ({type(error).__name__}: {message}).") from error


_OPENMP = ("OMP_NUM_THREADS", "OMP_PROC_BIND")


@contextmanager
def _threads_of_torch() -> Iterator[None]:
    """The number of threads of torch in the environment, where the native code finds it when it is first loaded.

    It brings an OpenMP of its own, which keeps that number. Raises `TargetError` where it has another one already.
    """
    before = {name: os.environ.get(name) for name in _OPENMP}
    os.environ.update(OMP_NUM_THREADS=str(torch.get_num_threads()), OMP_PROC_BIND="false")
    try:
        threads = _loaded_threads()
        if threads not in (0, torch.get_num_threads()):
            raise TargetError(
                f"Symmetrix was started with {threads} threads and keeps them, torch has {torch.get_num_threads()}. "
                "Time other numbers of threads in processes of their own."
            )
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _loaded_threads() -> int:
    """Threads of the native code, which this loads; 0 where it does not say or cannot be loaded."""
    try:
        import symmetrix
        from symmetrix.runtime_diagnostics import openmp_runtime_diagnostics

        runtime = openmp_runtime_diagnostics(native_module=symmetrix.load_backend())["runtime"] or {}
    except Exception:  # `opened` meets the same, and says it
        return 0
    return int(runtime.get("omp_max_threads") or 0)


class _Native:
    """A native evaluator as a function of graphs."""

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator
        self.types = np.full(max(evaluator.atomic_numbers) + 1, -1, np.int32)
        self.types[evaluator.atomic_numbers] = np.arange(len(evaluator.atomic_numbers))

    def __call__(self, graph: AtomicGraph) -> Outputs:
        shares, gradients = self._evaluated(graph)
        energies = _WithGradient.apply(graph.edge_vectors(), shares, gradients, graph)
        return Outputs(energies, shares.to(energies.dtype))

    def _evaluated(self, graph: AtomicGraph) -> tuple[Tensor, Tensor]:
        """Energies of atoms (atoms,), and derivatives of the total by the vectors of edges (edges, 3), in float64."""
        vectors = graph.edge_vectors().detach().double().numpy()
        centre, neighbour = graph.edge_index.numpy().astype(np.int32)
        types = self.types[graph.numbers.numpy()]
        counts = np.bincount(centre, minlength=len(types)).astype(np.int32)
        lengths = np.linalg.norm(vectors, axis=1)
        self.evaluator.compute_node_energies_forces(
            len(types), types, counts, neighbour, types[neighbour], vectors.reshape(-1), lengths
        )
        shares = np.array(self.evaluator.node_energies)[: len(types)]
        pairs = np.array(self.evaluator.node_forces).reshape(-1, 3)[: len(lengths)]
        return torch.from_numpy(shares), torch.from_numpy(-pairs)


class _WithGradient(torch.autograd.Function):
    """Energies of structures (structures,) whose derivatives by the vectors of edges are known already."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, shares: Tensor, gradients: Tensor, graph: AtomicGraph) -> Tensor:
        ctx.save_for_backward(gradients.to(vectors.dtype), graph.structure_of_edge)
        energies = shares.new_zeros(graph.n_structures).index_add(0, graph.structure_of_atom, shares)
        return energies.to(vectors.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_energy: Tensor) -> tuple[Tensor, None, None, None]:
        gradients, structure = ctx.saved_tensors
        return gradients * by_energy[structure][:, None], None, None, None
