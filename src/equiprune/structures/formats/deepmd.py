"""DeePMD-kit's data systems: frames of arrays, with one composition or mixed ones, in eV and Angstrom.

A system has ``type.raw`` (the type of each atom), ``type_map.raw`` (the element of each type), an empty file ``nopbc``
where nothing is periodic, and sets of arrays: coord, box, energy, force, virial, one row a frame. In the mixed format
``real_atom_types`` says the type of each atom of each frame, -1 where there is none. The virial is minus the derivative
of the energy with respect to strain: stress = -virial / volume. See "Formats of a system" in DeePMD-kit's manual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from equiprune.structures.formats.format import reading, with_labels
from equiprune.structures.formats.rows import Rows
from equiprune.structures.sequences import Structures

LABELS = {"energy": "energy", "forces": "force", "virial": "virial", "energies": "atom_ener"}
"""DeePMD's array by what it is."""
ARRAYS = ("coord", "box", "real_atom_types", *LABELS.values())
SOURCES = {
    "energy": "DeePMD energy",
    "forces": "DeePMD force",
    "stress": "DeePMD virial (stress = -virial/volume)",
    "atom_energies": "DeePMD atom_ener",
}


@dataclass(frozen=True, eq=False)
class System(Structures):
    """Frames of a system.

    Attributes:
        path: for messages.
        types: of the atoms, (atoms,).
        names: element of each type.
        periodic: along all cell vectors, or along none.
        sets: arrays by DeePMD's names, (frames, ...).
    """

    path: Path
    types: np.ndarray
    names: Sequence[str]
    periodic: bool
    sets: Sequence[Mapping[str, Rows]]

    def __post_init__(self) -> None:
        """Raise `ValueError` for what does not add up."""
        unknown = [name for name in self.names if name not in atomic_numbers]
        if unknown:
            raise ValueError(f"type_map.raw names {', '.join(unknown)}, and elements are needed: correct it there")
        if self.types.size and not 0 <= self.types.min() <= self.types.max() < len(self.names):
            raise ValueError(
                f"type.raw has types {self.types.min()} to {self.types.max()}, and type_map.raw names "
                f"{len(self.names)}: {', '.join(self.names)}"
            )
        for arrays in self.sets:
            needed = {"coord", "box"} if self.periodic else {"coord"}
            if missing := needed - arrays.keys():
                wanted = ", ".join(sorted(missing))
                hint = "" if "coord" in missing else "; a system that is not periodic has a file nopbc"
                raise ValueError(f"a set has no {wanted}{hint}")
            if len({len(rows) for rows in arrays.values()}) != 1:
                told = ", ".join(f"{name} {len(rows)}" for name, rows in arrays.items())
                raise ValueError(f"the arrays of a set have different numbers of frames: {told}")
        object.__setattr__(self, "_ends", np.array(list(accumulate(len(arrays["coord"]) for arrays in self.sets))))

    def __len__(self) -> int:
        return int(vars(self)["_ends"][-1]) if self.sets else 0

    def read(self, index: int) -> Atoms:
        ends = vars(self)["_ends"]
        part = int(np.searchsorted(ends, index, side="right"))
        within = index - (int(ends[part - 1]) if part else 0)
        with reading(self.path, index):
            found = {name: rows.row(within) for name, rows in self.sets[part].items()}
            types = found.get("real_atom_types", self.types).astype(int).ravel()
            return frame(found, types, self.names, self.periodic)


def frame(arrays: Mapping[str, np.ndarray], types: np.ndarray, names: Sequence[str], periodic: bool) -> Atoms:
    """One structure from the arrays of a frame, with its labels; atoms of type -1 are padding."""
    real, symbols = types >= 0, np.array(names)
    if periodic and not np.linalg.det(arrays["box"].reshape(3, 3)):
        raise ValueError("its box has no volume; a system that is not periodic has a file nopbc")
    cell: Any = {"cell": arrays["box"].reshape(3, 3), "pbc": True} if periodic else {}
    atoms = Atoms(list(symbols[types[real]]), arrays["coord"].reshape(len(types), 3)[real], **cell)
    values: dict[str, Any] = {name: arrays[key] for name, key in LABELS.items() if key in arrays}
    virial = values.pop("virial", None)
    if "energy" in values:
        values["energy"] = values["energy"].reshape(()).item()
    if "forces" in values:
        values["forces"] = values["forces"].reshape(len(types), 3)[real]
    if "energies" in values:
        values["energies"] = values["energies"].reshape(len(types))[real]
    if virial is not None and periodic:
        values["stress"] = -virial.reshape(3, 3) / atoms.get_volume()
    return with_labels(atoms, values, SOURCES)
