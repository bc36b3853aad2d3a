"""SPICE: conformations of molecules in HDF5, in bohr and hartree, with gradients.

A group each, with ``atomic_numbers`` (atoms,), ``conformations`` (n, atoms, 3), ``dft_total_energy`` (n,) and
``dft_total_gradient`` (n, atoms, 3): https://github.com/openmm/spice-dataset. Forces are minus the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units

from equiprune.structures.formats.format import RandomAccess, reading, with_labels
from equiprune.structures.formats.hdf5 import hdf5_file, is_hdf5
from equiprune.structures.sequences import Structures

_SOURCES = {
    "energy": "dft_total_energy (hartree)",
    "forces": "minus dft_total_gradient (hartree/bohr)",
}
_UNITS = {"conformations": "bohr", "dft_total_energy": "hartree", "dft_total_gradient": "hartree/bohr"}
"""Units that a dataset may state, as they must be."""


class Spice(RandomAccess):
    """SPICE 1 and 2 (.hdf5)."""

    name: ClassVar[str] = "SPICE HDF5"

    def recognises(self, path: Path) -> bool:
        return is_hdf5(path)

    def open(self, path: Path) -> Structures:
        return Conformations.open(path)


@dataclass(frozen=True, eq=False)
class Conformations(Structures):
    """Conformations of molecules, one molecule after another.

    Attributes:
        path: of the file.
        molecules: names of their groups.
        ends: number of conformations up to the end of each.
        atoms: of each molecule.
    """

    path: Path
    molecules: tuple[str, ...]
    ends: np.ndarray
    atoms: np.ndarray

    @classmethod
    def open(cls, path: Path) -> Conformations:
        """Count conformations. Raises `StructureError` without h5py, for other groups and for other units."""
        with reading(path), hdf5_file(path) as file:
            shapes = {name: _shape(name, group) for name, group in file.items()}
        counts = np.array([shape[0] for shape in shapes.values()], dtype=np.int64)
        return cls(path, tuple(shapes), np.cumsum(counts), np.array([shape[1] for shape in shapes.values()]))

    @property
    def sizes(self) -> np.ndarray:
        return np.repeat(self.atoms, np.diff(self.ends, prepend=0))

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def read(self, index: int) -> Atoms:
        number = int(np.searchsorted(self.ends, index, side="right"))
        with reading(self.path, index), hdf5_file(self.path) as file:
            return _Molecule.of(file, self.molecules[number]).conformation(index - self._begin(number))

    def __iter__(self) -> Iterator[Atoms]:
        with reading(self.path), hdf5_file(self.path) as file:  # opening takes longer than reading
            for number, name in enumerate(self.molecules):
                begin, end = self._begin(number), int(self.ends[number])
                with reading(self.path, begin):
                    molecule = _Molecule.of(file, name)
                for index in range(begin, end):
                    with reading(self.path, index):
                        atoms = molecule.conformation(index - begin)
                    yield atoms

    def _begin(self, number: int) -> int:
        return int(self.ends[number - 1]) if number else 0


@dataclass(frozen=True)
class _Molecule:
    """A group of an open file: its name, atomic numbers (atoms,), and datasets, of which energies may be missing."""

    name: str
    numbers: np.ndarray
    places: Any
    energies: Any
    gradients: Any

    @classmethod
    def of(cls, file: Any, name: str) -> _Molecule:
        group = file[name]
        numbers = np.asarray(group["atomic_numbers"][()], dtype=int)
        energies, gradients = (group.get(each) for each in ("dft_total_energy", "dft_total_gradient"))
        return cls(name, numbers, group["conformations"], energies, gradients)

    def conformation(self, index: int) -> Atoms:
        """One structure in Angstrom, with labels in eV."""
        atoms = Atoms(self.numbers, np.array(self.places[index], dtype=float) * units.Bohr)
        atoms.info |= {"molecule": self.name}
        unit = units.Hartree / units.Bohr
        values: dict[str, Any] = {
            "energy": None if self.energies is None else float(self.energies[index]) * units.Hartree,
            "forces": None if self.gradients is None else -np.array(self.gradients[index], dtype=float) * unit,
        }
        return with_labels(atoms, values, _SOURCES)


def _shape(name: str, group: Any) -> tuple[int, int]:
    """Conformations and atoms of a molecule. Raises `ValueError` for what is no such group."""
    if not hasattr(group, "values") or not {"atomic_numbers", "conformations"} <= set(group):
        raise ValueError(
            f"'{name}' is not a molecule of SPICE (atomic_numbers, conformations) nor a DeePMD system (type.raw)"
        )
    for dataset, unit in _UNITS.items():
        stated = group[dataset].attrs.get("units", unit) if dataset in group else unit
        stated = stated.decode() if isinstance(stated, bytes) else str(stated)
        if stated.lower() != unit:
            raise ValueError(f"{dataset} of '{name}' is in {stated}, and only {unit} is read")
    return int(group["conformations"].shape[0]), int(group["conformations"].shape[1])
