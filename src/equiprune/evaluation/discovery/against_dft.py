"""Relaxed structures beside those of DFT: is another correction due, and how far apart are they?

The corrections of the Materials Project (MP2020, doi:10.1038/s41598-021-94550-5) depend on composition, on oxidation
states, on settings of DFT, and, where there is oxygen or sulphur, on distances, which tell oxides from peroxides and
superoxides, and sulphides from polysulphides. A model that relaxes into a structure of the same kind therefore gets the
very correction of the DFT entry, and all that counts is how much another kind would change it. Comparing two
corrections of the same pymatgen also makes the result independent of its version.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from ase.data import atomic_numbers

from equiprune.errors import EquipruneError, StructureError
from equiprune.evaluation.discovery.entries import Entry
from equiprune.progress import Progress, silent

UNMATCHED = 1.0
"""Distance of structures that cannot be matched: the tolerance, as on the leaderboard."""

_DEPENDS_ON_DISTANCES = {atomic_numbers["O"], atomic_numbers["S"]}
_NO_PYMATGEN = "Corrections and distances of structures need pymatgen. Install it: pip install 'equiprune[discovery]'"


@dataclass(frozen=True)
class Difference:
    """A relaxed structure, compared with DFT's.

    Attributes:
        correction: of the relaxed structure less that of DFT's, eV/atom.
        rmsd: root mean square displacement after matching, in units of (volume per atom)^(1/3); `UNMATCHED` where
            there is no match; None where it was not asked for.
    """

    correction: float = 0.0
    rmsd: float | None = None


def check_pymatgen() -> None:
    """Raise `EquipruneError` unless pymatgen is here."""
    try:
        import pymatgen.core  # noqa: F401
    except ImportError as error:
        raise EquipruneError(_NO_PYMATGEN) from error


def differences(
    entries: Iterable[tuple[str, Entry]],
    relaxed: Mapping[str, Mapping[str, Atoms]],
    progress: Progress = silent,
) -> dict[str, dict[str, Difference]]:
    """Comparisons of relaxed structures with those of DFT's entries, by model and material.

    Args:
        entries: names of materials and DFT's entries, in any order.
        relaxed: structures by model and material.
        progress: called once for each entry.

    Raises:
        StructureError: an entry that pymatgen does not understand, or a relaxed material that has none.
    """
    found: dict[str, dict[str, Difference]] = {model: {} for model in relaxed}
    for name, entry in entries:
        for model, structures in relaxed.items():
            if name in structures:
                with _understood(name):
                    change = correction_change(entry, structures[name])
                    found[model][name] = Difference(change, distance(structures[name], _structure(entry)))
        progress(1)
    for model, structures in relaxed.items():
        if lacking := sorted(structures.keys() - found[model].keys()):
            raise StructureError(
                f"There is no entry of {len(lacking)} relaxed materials, such as {lacking[0]}. Give `entries` of the "
                "same set of materials as `initial` and `summary`."
            )
    return found


def correction_change(entry: Entry, relaxed: Atoms) -> float:
    """MP2020 correction of a relaxed structure less that of DFT's entry, eV/atom.

    Only oxygen and sulphur have corrections that depend on distances (pymatgen's
    `MaterialsProject2020Compatibility.get_adjustments`); zero without them.
    """
    if not _DEPENDS_ON_DISTANCES & set(relaxed.numbers.tolist()):
        return 0.0
    return _correction(entry, _converted(relaxed)) - _correction(entry, _structure(entry))


def distance(first: Any, second: Any) -> float:
    """Root mean square displacement of two structures after matching, as Matbench Discovery measures it.

    Args:
        first: structure of ASE or pymatgen.
        second: the same.

    In units of (volume per atom)^(1/3); `UNMATCHED` where they cannot be matched within that tolerance. Source:
    matbench_discovery/structure/symmetry.py, `calc_structure_distances`.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    pair = [_converted(one) if isinstance(one, Atoms) else one for one in (first, second)]
    found = StructureMatcher(stol=UNMATCHED, scale=False).get_rms_dist(*pair)
    return UNMATCHED if found is None else float(found[0])


def _correction(entry: Entry, structure: Any) -> float:
    """MP2020 correction of a structure with the settings of a DFT entry, eV/atom."""
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    made = ComputedStructureEntry(structure, 0.0, parameters=dict(entry["parameters"]), data=dict(entry["data"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oxidation states that cannot be guessed, alike for both structures
        adjustments = MaterialsProject2020Compatibility(check_potcar=False).get_adjustments(made)
    return float(sum(each.value for each in adjustments)) / len(structure)


def _structure(entry: Entry) -> Any:
    from pymatgen.core import Structure

    return Structure.from_dict(entry["structure"])


def _converted(atoms: Atoms) -> Any:
    from pymatgen.core import Structure

    return Structure(atoms.cell.array, atoms.numbers, atoms.positions, coords_are_cartesian=True)


@contextmanager
def _understood(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # pymatgen has many
        raise StructureError(
            f"The entry of {name} cannot be compared ({type(error).__name__}: {error}). Get the file of entries again."
        ) from error
