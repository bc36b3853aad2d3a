"""Trajectories of one molecule in .npz files: MD17, rMD17 and MD22, in kcal/mol and Angstrom.

Arrays are those of the data sets' own pages: ``nuclear_charges, coords, energies, forces`` (rMD17), or ``z, R, E, F``
(MD17, MD22, and whatever else sGDML writes, which also names its units).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase import Atoms, units

from equiprune.structures.formats.format import RandomAccess, reading, with_labels
from equiprune.structures.formats.rows import Rows, RowsUnpacked, in_order, npz_content
from equiprune.structures.sequences import Structures

_NAMES = (("nuclear_charges", "coords", "energies", "forces"), ("z", "R", "E", "F"))
_UNIT = units.kcal / units.mol
"""eV"""
_STATED = {"e_unit": ("kcal/mol",), "r_unit": ("Ang", "Angstrom", "angstrom")}
"""Units that sGDML may name, as they must be."""


class MoleculeNpz(RandomAccess):
    """Trajectories of MD17, rMD17 and MD22 (.npz)."""

    name: ClassVar[str] = "MD17, rMD17, MD22 npz"

    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".npz" and path.is_file()

    def open(self, path: Path) -> Structures:
        return Trajectory.open(path)

    def stream(self, path: Path) -> Iterator[Atoms]:
        """Structures in order; a compressed file is not unpacked for them."""
        return iter(Trajectory.open(path, in_order))


@dataclass(frozen=True, eq=False)
class Trajectory(Structures):
    """Conformations of one molecule.

    Attributes:
        path: of the file.
        numbers: (atoms,).
        arrays: positions, energies and forces as the file has them; the latter two may be missing.
        sources: what the labels are called there, and their units.
    """

    path: Path
    numbers: np.ndarray
    arrays: Mapping[str, Rows]
    sources: Mapping[str, str]

    @classmethod
    def open(cls, path: Path, compressed: Callable[[Path, str], Rows] = RowsUnpacked) -> Trajectory:
        """Find the arrays. Raises `StructureError` for other arrays, units or shapes.

        ``compressed`` makes rows of arrays that are, from the path and the name in the archive.
        """
        with reading(path):
            arrays, texts = npz_content(path, compressed)
            names = next((names for names in _NAMES if {names[0], names[1]} <= arrays.keys()), None)
            if names is None:
                wanted = " or ".join(", ".join(each) for each in _NAMES)
                raise ValueError(f"it has the arrays {', '.join(arrays) or 'none'}, and should have {wanted}")
            for key, allowed in _STATED.items():
                if texts.get(key, allowed[0]) not in allowed:
                    raise ValueError(f"{key} is {texts[key]}, and only {allowed[0]} is read")
            numbers, positions, energies, forces = names
            charges = np.array([arrays[numbers].row(i) for i in range(len(arrays[numbers]))]).astype(int).ravel()
            there = {"positions": positions, "energy": energies, "forces": forces}
            found = {quantity: arrays[name] for quantity, name in there.items() if name in arrays}
            if len({len(rows) for rows in found.values()}) != 1:
                raise ValueError("its arrays have different numbers of structures")
            of_atoms = {name: rows.row(0).shape for name, rows in found.items() if name != "energy" and len(rows)}
            if any(shape != (len(charges), 3) for shape in of_atoms.values()):
                told = ", ".join(f"{there[name]} {shape}" for name, shape in of_atoms.items())
                raise ValueError(f"it has {len(charges)} atoms, and arrays of other sizes for each structure: {told}")
        sources = {"energy": f"{energies} (kcal/mol)", "forces": f"{forces} (kcal/mol/Angstrom)"}
        return cls(path, charges, found, sources)

    @property
    def sizes(self) -> np.ndarray:
        return np.full(len(self), len(self.numbers))

    def __len__(self) -> int:
        return len(self.arrays["positions"])

    def read(self, index: int) -> Atoms:
        with reading(self.path, index):
            atoms = Atoms(self.numbers, self.arrays["positions"].row(index))
            values = {q: rows.row(index) * _UNIT for q, rows in self.arrays.items() if q != "positions"}
            if "energy" in values:
                values["energy"] = values["energy"].reshape(()).item()
            return with_labels(atoms, values, self.sources)
