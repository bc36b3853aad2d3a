"""Materials of the discovery task with DFT's energies, from a summary or from what structures say of themselves.

The summary is Matbench Discovery's ``wbm-summary.csv.gz``; its columns are described in its documentation of the data
(site/src/routes/data of janosh/matbench-discovery) and written by data/wbm/compile_wbm_test_set.py there.

==========================================  =========  ==========================================================
column                                      unit       meaning
==========================================  =========  ==========================================================
``material_id``                                        name
``formula``                                            of the cell, such as ``Ac6 U2``
``n_sites``                                            atoms of the cell
``uncorrected_energy_from_cse``             eV         DFT energy of the cell without corrections; where the column is
                                                       missing, ``uncorrected_energy``
``e_form_per_atom_mp2020_corrected``        eV/atom    formation energy with corrections
``e_above_hull_mp2020_corrected_ppd_mp``    eV/atom    energy above the convex hull of the Materials Project
``unique_prototype``                                   True unless the same prototype is in the Materials Project or
                                                       more stable in the summary; the column may be missing
==========================================  =========  ==========================================================
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from equiprune.errors import StructureError, TargetError
from equiprune.evaluation.discovery.text_files import damaged, lines_of

_SUMMARY = "summary of materials (.csv)"
_NAME, _FORMULA, _SITES = "material_id", "formula", "n_sites"
_ENERGIES = ("uncorrected_energy_from_cse", "uncorrected_energy")
_FORMATION, _HULL, _UNIQUE = (
    "e_form_per_atom_mp2020_corrected",
    "e_above_hull_mp2020_corrected_ppd_mp",
    "unique_prototype",
)
_NEEDED = (_NAME, _FORMULA, _SITES, _FORMATION, _HULL)
_ELEMENT = re.compile(r"([A-Z][a-z]?)\d*")
_TRUTH = {"True": True, "False": False}


@dataclass(frozen=True)
class Material:
    """One material and DFT's energies of it.

    Attributes:
        name: of the material, the same in all files.
        elements: atomic numbers in it.
        atoms: of its cell.
        raw_energy: eV/atom, without corrections.
        formation_energy: eV/atom, with corrections.
        above_hull: energy above the convex hull, eV/atom; None where it is not known.
        unique_prototype: True if no other material has the same prototype and is more stable; None where not known.
    """

    name: str
    elements: frozenset[int]
    atoms: int
    raw_energy: float
    formation_energy: float
    above_hull: float | None = None
    unique_prototype: bool | None = None


def read_summary(path: Path) -> list[Material]:
    """The materials of a summary, in its order.

    Raises:
        StructureError: no such file, a column that is missing, or a line that is damaged.
    """
    lines = lines_of(path, _SUMMARY)
    _, head = next(lines)
    columns = next(csv.reader([head]))
    if missing := [name for name in _NEEDED if name not in columns]:
        raise damaged(path, 1, _SUMMARY, f"there is no column {', '.join(missing)}")
    if not any(name in columns for name in _ENERGIES):
        raise damaged(path, 1, _SUMMARY, f"there is no column {_ENERGIES[0]}")
    found: dict[str, Material] = {}
    for number, line in lines:
        try:
            material = _material(dict(zip(columns, next(csv.reader([line])), strict=True)))
        except (ValueError, KeyError, StopIteration) as error:
            raise damaged(path, number, _SUMMARY, _why(error, len(columns))) from error
        if material.name in found:
            raise damaged(path, number, _SUMMARY, f"{material.name} is there twice")
        found[material.name] = material
    if not found:
        raise StructureError(f"'{path}' has no materials, only the names of columns. Give a {_SUMMARY}.")
    return list(found.values())


def _material(row: Mapping[str, str]) -> Material:
    atoms = int(row[_SITES])
    if atoms < 1:
        raise ValueError(f"{_SITES} is {atoms}")
    energy = next(name for name in _ENERGIES if name in row)
    return Material(
        row[_NAME],
        _elements(row[_FORMULA]),
        atoms,
        _number(row, energy) / atoms,
        _number(row, _FORMATION),
        _number(row, _HULL),
        _TRUTH[row[_UNIQUE]] if _UNIQUE in row else None,
    )


def _number(row: Mapping[str, str], column: str) -> float:
    value = float(row[column])
    if not math.isfinite(value):
        raise ValueError(f"{column} is {value}")
    return value


def _elements(formula: str) -> frozenset[int]:
    symbols = _ELEMENT.findall(formula)
    if not symbols or _ELEMENT.sub("", formula).strip() or any(symbol not in atomic_numbers for symbol in symbols):
        raise ValueError(f"'{formula}' is no formula")
    return frozenset(atomic_numbers[symbol] for symbol in symbols)


def _why(error: Exception, columns: int) -> str:
    if isinstance(error, KeyError):
        return f"{_UNIQUE} is {error}, neither True nor False"
    text = str(error)
    return f"not {columns} columns" if isinstance(error, StopIteration) or "argument" in text else text


_KEYS = ("id", "corrected_energy", "eform_per_atom", "corrected_eform_per_atom")
"""Entries of ``info`` of structures without a summary: as matcalc's sample of WBM has them. eV, and eV/atom."""


def material_of(atoms: Atoms, number: int) -> Material:
    """The material that a structure is, with what its ``info`` says of it.

    ``id`` is its name, ``corrected_eform_per_atom`` the formation energy (eV/atom) with corrections, and
    ``corrected_energy`` the energy of the cell (eV); the energy without corrections is that of its calculator. How far
    the two formation energies are apart must be how far the two energies are: all else refers to something different.

    Raises:
        StructureError: one of them is missing, is no number, or they do not belong together.

    >>> from ase.calculators.singlepoint import SinglePointCalculator
    >>> oxide = Atoms("MgO", info={"id": "a", "corrected_energy": -12.7, "eform_per_atom": -2.5,
    ...     "corrected_eform_per_atom": -2.85})
    >>> oxide.calc = SinglePointCalculator(oxide, energy=-12.0)
    >>> material_of(oxide, 0).raw_energy, sorted(material_of(oxide, 0).elements)
    (-6.0, [8, 12])
    """
    if missing := [key for key in _KEYS if key not in atoms.info]:
        raise StructureError(
            f"Structure {number} ({atoms.get_chemical_formula()}) has no {', '.join(missing)} in its info. Give "
            f"`summary`, or structures with {', '.join(_KEYS)} and the energy without corrections as calculator result."
        )
    raw = atoms.calc.results.get("energy") if atoms.calc is not None else None
    corrected, raw_formation, formation = (atoms.info[key] for key in _KEYS[1:])
    try:
        values = np.array([raw, corrected, raw_formation, formation], dtype=float)
    except (TypeError, ValueError):
        values = np.full(4, np.nan)
    if not np.isfinite(values).all():
        raise StructureError(
            f"Structure {number} ({atoms.info['id']}): the energy of its calculator ({raw}), {_KEYS[1]} ({corrected}), "
            f"{_KEYS[2]} ({raw_formation}) and {_KEYS[3]} ({formation}) must be numbers."
        )
    if abs((values[1] - values[0]) / len(atoms) - (values[3] - values[2])) > 1e-4:
        raise StructureError(
            f"Structure {number} ({atoms.info['id']}): {_KEYS[1]} less the energy of its calculator is "
            f"{values[1] - values[0]:.4f} eV, but the formation energies differ by {values[3] - values[2]:.4f} eV/atom "
            f"with {len(atoms)} atoms. They are of different calculations."
        )
    elements = frozenset(atoms.numbers.tolist())
    return Material(str(atoms.info["id"]), elements, len(atoms), float(values[0]) / len(atoms), float(values[3]))


def described(structures: Iterable[Atoms]) -> Iterator[Material]:
    """The materials that structures are; raises `StructureError` as `material_of`, and for a name that comes twice."""
    seen: set[str] = set()
    for number, atoms in enumerate(structures):
        material = material_of(atoms, number)
        if material.name in seen:
            raise StructureError(f"Structure {number} is called {material.name}, as one before it.")
        seen.add(material.name)
        yield material


def sampled(materials: Sequence[Material], count: int | None, seed: int) -> list[Material]:
    """So many of the materials, drawn by ``seed``, in their order; all of them where no number is given.

    Raises:
        TargetError: there are fewer.

    >>> made = [Material(str(i), frozenset({1}), 1, 0.0, 0.0) for i in range(9)]
    >>> [material.name for material in sampled(made, 3, seed=1)]
    ['3', '4', '6']
    """
    if count is None:
        return list(materials)
    if count > len(materials):
        raise TargetError(f"`sample` {count} is not possible: there are {len(materials)} materials. Give fewer.")
    drawn = np.random.default_rng(seed).choice(len(materials), count, replace=False)
    return [materials[i] for i in sorted(drawn.tolist())]
