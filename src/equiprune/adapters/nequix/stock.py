"""Energies by Nequix's own calculator and its JAX model, as a program: JAX keeps threads and memory while one runs.

The file is named on the command line, structures come as JSON on standard input, and energies go to standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms


def energies(path: Path, structures: Sequence[Atoms]) -> list[float]:
    """Energies (eV) by the model that ``NequixCalculator`` opens, with the graphs that it makes.

    All structures are evaluated at once and without forces, since JAX compiles anew for each number of atoms or edges.
    """
    import equinox
    from nequix.calculator import NequixCalculator

    calculator = NequixCalculator(model_path=str(path), backend="jax", use_kernel=False)
    graphs = [_graph(calculator, atoms) for atoms in structures]
    starts = accumulate((len(atoms) for atoms in structures[:-1]), initial=0)
    atomic = equinox.filter_jit(calculator.model.node_energies)(
        np.concatenate([_displacements(graph) for graph in graphs]),
        np.concatenate([graph["species"] for graph in graphs]),
        *_ends(graphs),
    )
    return np.add.reduceat(np.asarray(atomic)[:, 0], list(starts)).tolist()


def _graph(calculator: Any, atoms: Atoms) -> dict[str, Any]:
    from nequix.data import preprocess_graph

    return preprocess_graph(atoms, calculator.atom_indices, calculator.cutoff, False)


def _displacements(graph: dict[str, Any]) -> np.ndarray:
    """Vectors from receivers to senders, as ``Nequix.__call__`` makes them (nequix/model.py)."""
    vectors = graph["positions"][graph["senders"]] - graph["positions"][graph["receivers"]]
    return vectors if graph["cell"] is None else vectors + graph["shifts"] @ graph["cell"]


def _ends(graphs: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    """Senders and receivers of all edges, with the atoms of all structures counted through."""
    before = list(accumulate((len(graph["species"]) for graph in graphs[:-1]), initial=0))
    return [
        np.concatenate([graph[end] + start for graph, start in zip(graphs, before, strict=True)])
        for end in ("senders", "receivers")
    ]


if __name__ == "__main__":
    given = [Atoms(**described) for described in json.load(sys.stdin)]
    print(json.dumps(energies(Path(sys.argv[1]), given)))
