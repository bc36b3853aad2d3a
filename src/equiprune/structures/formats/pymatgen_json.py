"""Structures and labels of VASP in the JSON of pymatgen, read without it: MPtrj and MatPES.

The stress of both is VASP's own: kbar, positive where the cell is compressed; ASE's is minus 0.1 GPa of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.stress import voigt_6_to_full_3x3_stress

from equiprune.structures.formats.format import Streamed, reading, with_labels
from equiprune.structures.formats.json_records import beginning, is_json, records

_END = object()
_KBAR = -0.1 * units.GPa
"""eV/Angstrom^3 with ASE's sign."""


class MPtrj(Streamed):
    """The Materials Project's trajectories (MPtrj_2022.9_full.json): frames by material, with raw energies of VASP.

    Keys are those of https://figshare.com/articles/dataset/23713842.
    """

    name: ClassVar[str] = "MPtrj JSON"
    sources: ClassVar[Mapping[str, str]] = {
        "energy": "uncorrected_total_energy",
        "forces": "force",
        "stress": "stress (kbar, VASP's sign)",
    }

    def recognises(self, path: Path) -> bool:
        return is_json(path) and _begins(path, b"{", b'"uncorrected_total_energy"')

    def stream(self, path: Path) -> Iterator[Atoms]:
        for material, frames in _records(path, "", named=True):
            with reading(path):
                made = [self._structure(material, name, entry) for name, entry in frames.items()]
            yield from made

    def _structure(self, material: str, frame: str, entry: Mapping[str, Any]) -> Atoms:
        atoms = structure(entry["structure"])
        atoms.info |= {"mp_id": material, "frame_id": frame}
        found = labels(entry.get("uncorrected_total_energy"), entry.get("force"), entry.get("stress"))
        return with_labels(atoms, found, self.sources)


class MatPES(Streamed):
    """MatPES (MatPES-PBE-*.json.gz, MatPES-R2SCAN-*.json.gz): a list of single calculations.

    Keys are those of https://matpes.ai; a stress is 6 numbers, xx, yy, zz, yz, xz, xy.
    """

    name: ClassVar[str] = "MatPES JSON"
    sources: ClassVar[Mapping[str, str]] = {
        "energy": "energy",
        "forces": "forces",
        "stress": "stress (kbar, VASP's sign)",
    }

    def recognises(self, path: Path) -> bool:
        return is_json(path) and _begins(path, b"[", b'"structure"', b'"forces"')

    def stream(self, path: Path) -> Iterator[Atoms]:
        for entry in _records(path, "item", named=False):
            with reading(path):
                if not isinstance(entry, Mapping):
                    raise ValueError(f"an entry of its list is {short(entry)}, and should be a calculation")
                atoms = structure(entry["structure"])
                atoms.info |= {key: entry[key] for key in ("matpes_id", "functional") if entry.get(key)}
                found = labels(entry.get("energy"), entry.get("forces"), entry.get("stress"))
                made = with_labels(atoms, found, self.sources)
            yield made


def _begins(path: Path, *words: bytes) -> bool:
    begin = beginning(path)
    return begin.startswith(words[0]) and all(word in begin for word in (b'"lattice"', *words[1:]))


def _records(path: Path, prefix: str, *, named: bool) -> Iterator[Any]:
    """The records of a file; whatever is wrong with the JSON is said of the file."""
    with reading(path), records(path, prefix, named=named) as found:
        while True:
            with reading(path):
                record = next(found, _END)
            if record is _END:
                return
            yield record


def structure(value: Mapping[str, Any]) -> Atoms:
    """A structure of pymatgen's JSON. Raises `ValueError` for a site with less or more than one element."""
    lattice = value["lattice"]
    cell = np.array(lattice["matrix"], dtype=float)
    symbols, places = [], []
    for site in value["sites"]:
        species = site["species"]
        if len(species) != 1 or species[0].get("occu", 1) != 1:
            raise ValueError("a site is occupied in part or by several elements")
        symbols.append(species[0]["element"])
        places.append(site["xyz"] if "xyz" in site else np.array(site["abc"], dtype=float) @ cell)
    return Atoms(symbols, np.array(places, dtype=float).reshape(-1, 3), cell=cell, pbc=lattice.get("pbc", True))


def labels(energy: Any, forces: Any, stress: Any) -> dict[str, Any]:
    """Labels from eV, eV/Angstrom and kbar with VASP's sign; what is not there is None."""
    tensor = None if stress is None else np.array(stress, dtype=float)
    if tensor is not None:
        tensor = _KBAR * (voigt_6_to_full_3x3_stress(tensor) if tensor.shape == (6,) else tensor.reshape(3, 3))
    return {
        "energy": None if energy is None else float(energy),
        "forces": None if forces is None else np.array(forces, dtype=float).reshape(-1, 3),
        "stress": tensor,
    }
