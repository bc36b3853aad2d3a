"""Energy curves of pairs of atoms, as files hold them.

The layout is that of Matbench Discovery's diatomics (janosh/matbench-discovery): JSON, often compressed (.gz), of
functionals, each with pairs such as ``"H-H"``, each with ``distances`` (Angstrom), ``energies`` (eV) and, where they
are known, ``forces`` (eV/Angstrom) of both atoms, the second of which is on the positive side of the first.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from equiprune.errors import StructureError, closest


@dataclass(frozen=True)
class Curve:
    """Energies of a pair of atoms.

    =========  =========  ============  ==================================================
    field      shape      unit          meaning
    =========  =========  ============  ==================================================
    distances  (points,)  Angstrom      ascending
    energies   (points,)  eV            of both atoms; only differences have a meaning
    forces     (points,)  eV/Angstrom   -dE/dr, positive where atoms repel; None if unknown
    =========  =========  ============  ==================================================
    """

    distances: np.ndarray
    energies: np.ndarray
    forces: np.ndarray | None = None

    def between(self, shortest: float, longest: float) -> Curve:
        """The part of the curve within a range of distances, Angstrom."""
        inside = (self.distances >= shortest) & (self.distances <= longest)
        forces = None if self.forces is None else self.forces[inside]
        return Curve(self.distances[inside], self.energies[inside], forces)


def read_curves(path: Path, functional: str = "PBE") -> dict[int, Curve]:
    """Curves of pairs of the same element, by atomic number; pairs of two elements are left out.

    Args:
        path: JSON, plain or compressed (.gz).
        functional: whose curves are read.

    Raises:
        StructureError: no such file, no such functional, or something in it that is no curve.
    """
    found = _read(path)
    if not isinstance(found, dict) or not found or not all(isinstance(value, dict) for value in found.values()):
        raise StructureError(f"'{path}' has not the layout of curves: functional, pair, distances and energies.")
    if functional not in found:
        raise StructureError(
            f"'{path}' has no curves of {functional}.{closest(functional, found)} It has: {', '.join(found)}."
        )
    curves = {}
    for pair, given in found[functional].items():
        first, _, second = pair.partition("-")
        if first not in atomic_numbers or second not in atomic_numbers or first == "X":
            raise StructureError(f"'{path}': '{pair}' is no pair of elements. Pairs are called 'H-H', 'Na-Cl'.")
        if first == second:
            curves[atomic_numbers[first]] = _curve(f"'{path}', {functional} of {pair}", given)
    if not curves:
        raise StructureError(f"'{path}' has no pair of the same element with {functional}.")
    return curves


def _read(path: Path) -> Any:
    try:
        packed = path.read_bytes()
        return json.loads(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
    except FileNotFoundError as error:
        raise StructureError(f"There are no curves of pairs at '{path}': there is no such file.") from error
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise StructureError(f"'{path}' is not readable JSON ({error}). Is it whole? Get the file again.") from error


def _curve(where: str, given: Any) -> Curve:
    if not isinstance(given, Mapping) or not {"distances", "energies"} <= given.keys():
        raise StructureError(f"{where} lacks distances or energies.")
    try:
        distances, energies = (np.array(given[name], dtype=float) for name in ("distances", "energies"))
        both = np.array(given["forces"], dtype=float) if given.get("forces") is not None else None
    except (TypeError, ValueError) as error:
        raise StructureError(f"{where} holds something that is no number ({error}).") from error
    if distances.ndim != 1 or not distances.size or energies.shape != distances.shape:
        raise StructureError(
            f"{where} has {distances.size} distances and {energies.size} energies: give as many, in lists."
        )
    if both is not None and both.shape != (*distances.shape, 2, 3):
        raise StructureError(f"{where} has forces of shape {both.shape}: give ({distances.size}, 2, 3).")
    numbers = [distances, energies, *([] if both is None else [both])]
    if not all(np.isfinite(each).all() for each in numbers) or not (np.diff(distances, prepend=0.0) > 0).all():
        raise StructureError(f"{where} has numbers that are not finite, or distances that do not ascend from above 0.")
    return Curve(distances, energies, None if both is None else both[:, 1, 0])
