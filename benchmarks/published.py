"""Crystals of published tables of the Materials Project, without labels, from an archive of matminer.

``pip download matminer==0.2.6 --no-deps --no-binary :all:`` fetches it, ``python benchmarks/published.py
matminer-0.2.6.tar.gz crystals.extxyz`` writes them. Its tables are of formation energies (Faber and
others, Int. J. Quantum Chem. 115, 1094, 2015), elastic, piezoelectric and dielectric tensors (de Jong and others, Sci.
Data 2, 150009 and 150053, 2015; Petousis and others, Sci. Data 4, 160134, 2017): 7,116 crystals of 5,667 compositions,
nearly two thirds of three elements and more, most of up to 20 atoms. The Materials Project is licensed CC BY 4.0.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import read, write

_TENSORS = ("elastic_tensor.csv", "piezoelectric_tensor.csv", "dielectric_constant.csv")
_ENERGIES = "flla_2015.csv"


def published(archive: Path) -> list[Atoms]:
    """All crystals of the archive, in its order: cells, positions, elements, and nothing else.

    Raises:
        SystemExit: the archive has none of the tables.
    """
    found: list[Atoms] = []
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            if name in (_ENERGIES, *_TENSORS):
                rows = _rows(members.extractfile(member).read().decode())
                found.extend(map(_of_sites, rows) if name == _ENERGIES else map(_of_poscar, rows))
    if not found:
        sys.exit(f"'{archive}' has no crystals: give the source of matminer 0.2.6 (see {Path(__file__).name}).")
    return found


def _rows(table: str) -> Iterator[list[str]]:
    """Rows of a table below its reference and its header; cells may have lines and quotes."""
    csv.field_size_limit(sys.maxsize)
    body = table.split("\n", 1)[1] if table.startswith("#") else table
    rows = csv.reader(io.StringIO(body))
    next(rows)
    return rows


def _of_poscar(row: list[str]) -> Atoms:
    """From the cell that is a POSCAR; the columns of these tables are not always where their header says."""
    poscar = next(cell for cell in row if cell.split("\n")[1:2] == ["1.0"])
    atoms = read(io.StringIO(poscar), format="vasp")
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def _of_sites(row: list[str]) -> Atoms:
    """From the cell that is a structure of pymatgen as a dictionary."""
    structure: dict[str, Any] = ast.literal_eval(next(cell for cell in row if cell.startswith("{'lattice'")))
    sites = structure["sites"]
    symbols = [site["species"][0]["element"] for site in sites]
    return Atoms(symbols, scaled_positions=[s["abc"] for s in sites], cell=structure["lattice"]["matrix"], pbc=True)


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("output", type=Path)
    chosen = parser.parse_args()
    write(chosen.output, published(chosen.archive), format="extxyz")


if __name__ == "__main__":
    main()
