"""LMDB files of the Open Catalyst project (``.lmdb``): one pickled graph under each of the keys 0, 1, ...

The graphs are PyTorch Geometric's. They are read as data: no class that a pickle names is imported or run, and PyTorch
Geometric is not needed. Fields as in fairchem/core/datasets/lmdb_dataset.py and preprocessing/atoms_to_graphs.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor

from equiprune.files.pickles import StandIn, read_pickle
from equiprune.structures.formats.format import RandomAccess, reading
from equiprune.structures.formats.lmdb_files import is_lmdb, lmdb_pages
from equiprune.structures.sequences import Structures

_PACKAGES = frozenset({"torch_geometric"})


class Oc20(RandomAccess):
    """LMDB files of the Open Catalyst project (.lmdb)."""

    name: ClassVar[str] = "OC20 LMDB"

    def recognises(self, path: Path) -> bool:
        return is_lmdb(path)

    def open(self, path: Path) -> Structures:
        return Oc20Lmdb.open(path)


@dataclass(frozen=True, eq=False)
class Oc20Lmdb(Structures):
    """An LMDB of pickled graphs; ``length`` is how many."""

    path: Path
    length: int

    @classmethod
    def open(cls, path: Path) -> Oc20Lmdb:
        """Count the graphs. Raises `StructureError` for a damaged or foreign file."""
        with reading(path), lmdb_pages(path) as pages:
            stored = pages.get(b"length")
            length = read_pickle(stored, _PACKAGES) if stored else pages.entries
        return cls(path, int(length))

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Atoms:
        with reading(self.path, index):
            with lmdb_pages(self.path) as pages:
                stored = pages.get(b"%d" % index)
            if stored is None:
                raise ValueError("it is missing")
            return _atoms(_fields(read_pickle(stored, _PACKAGES)))


def _fields(graph: Any) -> Mapping[str, Any]:
    """Fields of a pickled ``Data``, before PyTorch Geometric 2 and since."""
    if not isinstance(graph, StandIn):
        raise ValueError(f"it holds a {type(graph).__name__}, not a graph of the Open Catalyst project")
    store = graph.state.get("_store")
    found = store.state.get("_mapping", store.state) if isinstance(store, StandIn) else graph.state
    return {name: value for name, value in found.items() if value is not None}


def _atoms(fields: Mapping[str, Any]) -> Atoms:
    """A structure with its energy (eV) and forces (eV/Angstrom); fixed atoms are marked as such."""
    missing = {"pos", "atomic_numbers", "cell"} - fields.keys()
    if missing:
        raise ValueError(f"the graph has no {', '.join(sorted(missing))}")
    atoms = Atoms(
        numbers=_array(fields["atomic_numbers"]).astype(int).ravel(),
        positions=_array(fields["pos"]),
        cell=_array(fields["cell"]).reshape(3, 3),
        pbc=True,
        tags=_array(fields["tags"]).astype(int).ravel() if "tags" in fields else None,
    )
    if "fixed" in fields:
        from ase.constraints import FixAtoms  # slow to import

        atoms.set_constraint(FixAtoms(mask=_array(fields["fixed"]).ravel() > 0))
    atoms.info |= {name: _plain(fields[name]) for name in ("sid", "fid") if name in fields}
    named = {"energy": ("energy", "y"), "forces": ("forces", "force")}
    results: dict[str, Any] = {
        result: _array(fields[next(name for name in names if name in fields)])
        for result, names in named.items()
        if any(name in fields for name in names)
    }
    if "energy" in results:
        results["energy"] = float(results["energy"].reshape(()))
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _array(value: Any) -> np.ndarray:
    return value.double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=float)


def _plain(value: Any) -> Any:
    """A number or text, as extxyz can hold it."""
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return value if isinstance(value, int | float | str) else str(value)
