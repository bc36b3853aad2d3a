"""Doubts about labels: keys that look like labels and are not taken, and labels that contradict their structures.

Nothing is changed by any of it. A few structures, evenly spread, tell enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.geometry import find_mic

from equiprune.errors import StructureError
from equiprune.structures.constraints import fixed
from equiprune.structures.labels import SOURCES, Labels
from equiprune.structures.sequences import Selection

LOOKED_AT = 64
"""Structures that are looked at, and as many pairs of neighbours."""
_LOOKS = {
    "energy": re.compile(r"energ|toten|^e_?\d*$|^e_|_e$", re.IGNORECASE),
    "forces": re.compile(r"forc|grad|^f$|^f_|_f$", re.IGNORECASE),
    "stress": re.compile(r"stress|virial|pressure", re.IGNORECASE),
}
_SIZES: Mapping[str, Callable[[int], tuple[int, ...]]] = {
    "energy": lambda atoms: (1,),
    "forces": lambda atoms: (3 * atoms,),
    "stress": lambda atoms: (6, 9),
}
_TAKEN = frozenset(("REF_energy", "REF_forces", "REF_stress"))
_HUGE = 1.0
"""eV/Angstrom^3, 160 GPa: beyond it most stresses of a set are hardly in this unit."""
_NET = 0.1
"""Net force relative to the root mean square of forces on atoms, times the root of their number."""
_SMALL = 0.3
"""Angstrom: neighbouring frames whose atoms moved less tell derivatives."""
_FEWEST = 8
"""Structures or pairs without which nothing is said of a trend."""


def likely_keys(structures: Iterable[Atoms]) -> dict[str, list[str]]:
    """Keys of entries that look like labels by their names and have the right number of numbers, by quantity.

    >>> likely_keys([Atoms("H", info={"dft_energy": -1.0, "virials": [0.0] * 9, "note": "energy"})])
    {'energy': ['dft_energy'], 'stress': ['virials']}
    """
    found: dict[str, list[str]] = {}
    for atoms in structures:
        entries = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
        for quantity, pattern in _LOOKS.items():
            for key, value in entries.items():
                known = found.setdefault(quantity, [])
                if pattern.search(str(key)) and key not in (*known, *_TAKEN, SOURCES):
                    known += [key] if _numbers(value) in _SIZES[quantity](len(atoms)) else []
    return {quantity: keys for quantity, keys in found.items() if keys}


def _numbers(value: Any) -> int | None:
    try:
        return np.asarray(value, dtype=float).size
    except (TypeError, ValueError):
        return None


def likely_keys_said(structures: Sequence[Atoms]) -> str:
    """A sentence about keys that look like labels and the arguments that take them; empty where there are none."""
    found = likely_keys(_spread(structures))
    told = [f"{', '.join(keys)} (`{quantity}_key` {keys[0]})" for quantity, keys in found.items()]
    unit = " A virial or a stress in another unit also needs `stress_unit`." if "stress" in found else ""
    return f" There are keys that look like labels: {'; '.join(told)}.{unit}" if told else ""


@dataclass(frozen=True)
class _Labelled:
    atoms: Atoms
    labels: Labels


class LabelDoubts:
    """Doubts about the labels of a set, from a few structures of one pass over all of them.

    Args:
        count: structures in the set; 64 of them are looked at, and as many pairs of neighbours.
    """

    def __init__(self, count: int) -> None:
        self._spread = _spread_over(count)
        self._begins = range(0, count - 1, max(1, (count - 1) // LOOKED_AT))
        self._seen = 0
        self._kept: dict[int, _Labelled] = {}

    def see(self, atoms: Atoms, labels: Labels) -> None:
        """The next structure of the set; kept if it is one of the few."""
        index, self._seen = self._seen, self._seen + 1
        if len(atoms) and (index in self._spread or index in self._begins or index - 1 in self._begins):
            self._kept[index] = _Labelled(atoms, labels)

    def skip(self) -> None:
        """The next structure cannot be evaluated; it is refused elsewhere."""
        self._seen += 1

    def said(self) -> list[str]:
        """Sentences about labels that contradict their structures: in unit, in sign, or in what forces add up to."""
        found = [self._kept[index] for index in self._spread if index in self._kept]
        pairs = [(self._kept[i], self._kept[i + 1]) for i in self._begins if {i, i + 1} <= self._kept.keys()]
        works = [work for pair in pairs if (work := _work(*pair)) is not None]
        doubts = (_net_force(found), _large_stress(found), _stress_sign(found), _slope(works))
        return [doubt for doubt in doubts if doubt]


def label_doubts(structures: Sequence[Atoms]) -> list[str]:
    """The same sentences about a few structures at hand."""
    doubts = LabelDoubts(len(structures))
    for atoms in structures:
        try:
            doubts.see(atoms, Labels.of(atoms))
        except StructureError:
            doubts.skip()
    return doubts.said()


def _spread(structures: Sequence[Atoms]) -> Sequence[Atoms]:
    return Selection(structures, _spread_over(len(structures)))


def _spread_over(count: int) -> range:
    return range(0, count, -(-count // LOOKED_AT) or 1)


def _net_force(found: Sequence[_Labelled]) -> str:
    net = []
    for each in found:
        forces = each.labels.forces
        if forces is None or fixed(each.atoms).any() or len(each.atoms) < 2:
            continue
        scale = np.sqrt(np.square(forces).sum())
        net.append((float(np.linalg.norm(forces.sum(axis=0))), scale))
    wrong = [total for total, scale in net if total > _NET * scale and total > 0.05]
    if not wrong:
        return ""
    return (
        f"Forces do not add up to zero in {len(wrong)} of {len(net)} structures that were looked at, up to "
        f"{max(wrong):.2f} eV/Angstrom: no potential can learn that. Are they all there, and of the same atoms?"
    )


def _stresses(found: Sequence[_Labelled]) -> list[tuple[_Labelled, np.ndarray]]:
    return [(each, each.labels.stress) for each in found if each.labels.stress is not None]


def _large_stress(found: Sequence[_Labelled]) -> str:
    largest = [float(np.abs(stress).max()) for _, stress in _stresses(found)]
    if not largest or np.median(largest) < _HUGE:
        return ""
    middle = float(np.median(largest))
    return (
        f"Stresses are large: {middle:.3g} eV/Angstrom^3 in the middle, {middle / units.GPa:.3g} GPa. If the file has "
        f"them in GPa or kbar, that is {1 / units.GPa:.4g} or {10 / units.GPa:.4g} times too much: give `stress_unit` "
        "(and `stress_sign` for VASP's own)."
    )


def _stress_sign(found: Sequence[_Labelled]) -> str:
    """By composition: where the volume is larger, the trace of the stress is."""
    by_composition: dict[str, list[tuple[float, float]]] = {}
    for each, stress in _stresses(found):
        if each.atoms.pbc.all():
            name = each.atoms.get_chemical_formula(empirical=True)
            point = (each.atoms.get_volume() / len(each.atoms), float(np.trace(stress)))
            by_composition.setdefault(name, []).append(point)
    for name, points in by_composition.items():
        volumes, traces = np.array(points).T
        if len(points) < _FEWEST or np.ptp(volumes) < 0.05 * volumes.mean() or np.ptp(traces) == 0:
            continue
        if np.corrcoef(volumes, traces)[0, 1] < -0.5:
            return (
                f"Stresses of {name} have the other sign than ASE's: they fall where the volume grows. If they are "
                "positive under compression, as in VASP's own files, give `stress_sign` pressure."
            )
    return ""


def _work(a: _Labelled, b: _Labelled) -> tuple[float, float] | None:
    """Change of energy and work of the forces, eV, between neighbouring frames of one trajectory."""
    if not _of_one_trajectory(a.atoms, b.atoms):
        return None
    if a.labels.energy is None or b.labels.energy is None or a.labels.forces is None or b.labels.forces is None:
        return None
    moved, distances = find_mic(b.atoms.positions - a.atoms.positions, a.atoms.cell, a.atoms.pbc)
    if not 0 < distances.max() < _SMALL:
        return None
    return b.labels.energy - a.labels.energy, -float((0.5 * (a.labels.forces + b.labels.forces) * moved).sum())


def _of_one_trajectory(first: Atoms, second: Atoms) -> bool:
    same = len(first) == len(second) and bool((first.numbers == second.numbers).all())
    return same and bool(np.allclose(first.cell.array, second.cell.array, atol=1e-8))


def _slope(pairs: Sequence[tuple[float, float]]) -> str:
    """The change of energy as a multiple of what the forces say, along a trajectory."""
    if len(pairs) < _FEWEST:
        return ""
    changes, works = np.array(pairs).T
    if not (works.any() and changes.any()):
        return ""
    agreement = float(changes @ works / np.sqrt((changes @ changes) * (works @ works)))
    factor = float(changes @ works / (works @ works))
    if abs(agreement) < 0.9 or 0.67 < factor < 1.5:
        return ""
    return (
        f"Along the trajectory energies change {factor:.3g} times as much as the forces say (eV, Angstrom): they "
        f"differ in unit or sign. A kcal/mol is {units.kcal / units.mol:.4g} eV, a hartree {units.Hartree:.4g} eV, a "
        f"hartree/bohr {units.Hartree / units.Bohr:.4g} eV/Angstrom; a gradient is minus a force."
    )
