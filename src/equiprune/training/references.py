"""Energies of elements when the level of theory changes: kept, refitted, or given. What was done is always said.

Total energies of two codes, functionals or pseudopotentials differ by a constant per element that says nothing about
forces. Added to the model, it leaves the network only what is physics; without it the first steps of training are spent
on a constant of eV per atom. The change is exact: the energy moves by the sum over atoms, nothing else does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from equiprune.adapters.capabilities import HasEnergyScale
from equiprune.adapters.history import ScaleChanged
from equiprune.errors import TargetError, closest
from equiprune.files.atomic import read_json
from equiprune.potentials.atomic_energies import BATCH_ATOMS, energies, isolated_energies, rebuilt, with_references
from equiprune.potentials.potential import Potential
from equiprune.structures.batching import batches
from equiprune.structures.checks import checked
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.labels import LabelKeys, Labels, labels_of
from equiprune.structures.reading import open_structures
from equiprune.structures.sequences import Origin, Selection, origin

NO_KEYS = LabelKeys()
_LOOKED_AT = 64
"""Structures that tell how far labels are from the model, where every one of them is not needed."""
FAR = 0.5
"""eV/atom between labels and model, beyond which they are hardly of one level of theory."""
WRONG = 5.0
"""eV/atom between labels and model, beyond which references that made it larger are refused."""
_ROWS = 1000
"""Structures beyond which only their least squares are kept."""
_DIGITS = 6
"""Changes are whole micro-eV: rounding of sums on another machine must not make another run of it."""
_SAME_COMPOSITION = 1e-6
"""Directions of composition with singular values below this times the largest count as none."""


@dataclass(frozen=True)
class Referenced:
    """A potential whose energies of elements were looked after.

    Attributes:
        potential: the result; the very one that was given when nothing changed.
        changes: what was added to the energy of each element, eV by atomic number.
        said: what was done and by how much, in a line.
    """

    potential: Potential
    changes: Mapping[int, float]
    said: str


class References(ABC):
    """Treatment of atomic reference energies before training starts."""

    @abstractmethod
    def apply(self, potential: Potential, structures: Sequence[Atoms]) -> Referenced:
        """To a potential, before it is trained on labelled structures."""


@dataclass(frozen=True)
class KeepReferences(References):
    """Leave them as they are, and say how far the labels are."""

    def apply(self, potential: Potential, structures: Sequence[Atoms]) -> Referenced:
        found = Offsets.of(potential, evenly_spaced(structures))
        if found is None:
            return Referenced(potential, {}, "References kept.")
        advice = " That is far for one level of theory: `references` refit is probably what you want."
        said = f"References kept. Labels minus model: {found.mean:+.3f} eV/atom, mean over {found.count} structures."
        return Referenced(potential, {}, said + (advice if abs(found.mean) > FAR else ""))


@dataclass(frozen=True)
class RefitReferences(References):
    """Fit them by least squares: label minus model energy, per atom, on the composition.

    Where compositions do not tell elements apart the smallest change is taken, and elements that are not in the data
    stay. Both are exact for the compositions of the data and say nothing about others.
    """

    def apply(self, potential: Potential, structures: Sequence[Atoms]) -> Referenced:
        """Raises `TargetError` when no structure has an energy."""
        found = Offsets.of(potential.with_dtype(torch.float64), structures)
        if found is None:
            raise TargetError(
                "References cannot be refitted: no structure has a label of its energy. Keep them, or give energies of "
                "isolated atoms."
            )
        changes, independent = found.fitted()
        said = (
            f"References refitted on {found.count} structures with {independent} independent compositions of "
            f"{len(found.elements)} elements: RMS of the energy {found.rms({}):,.1f} -> {found.rms(changes):,.1f} "
            f"meV/atom; {_listed(changes, '+')}."
        )
        if independent < len(found.elements):
            said += " Energies compare only among these compositions; give isolated atoms to compare others."
        return Referenced(with_references(potential, changes, "refitted"), changes, said)


@dataclass(frozen=True)
class GivenReferences(References):
    """Energies of isolated atoms at the new level of theory: what the model will give for one atom alone.

    Attributes:
        energies: eV by atomic number. Elements that the model does not know are left aside.
        anyway: take them even where they lead far away from the labels.
    """

    energies: Mapping[int, float]
    anyway: bool = False

    def apply(self, potential: Potential, structures: Sequence[Atoms]) -> Referenced:
        """Raises `TargetError` when an element of the structures is not given, or energies lead far from the labels."""
        present = {int(z) for atoms in structures for z in atoms.numbers}
        if missing := sorted(present - self.energies.keys()):
            raise TargetError(
                f"Energies are given for {_symbols(self.energies)}, but the structures also have {_symbols(missing)}. "
                "Give those too, or refit."
            )
        given = {z: self.energies[z] for z in sorted(self.energies) if z in potential.elements}
        exact = potential.with_dtype(torch.float64)
        own = isolated_energies(exact, list(given))
        changes = {z: _rounded(energy - own[z]) for z, energy in given.items()}
        said = (
            f"References set to energies of isolated atoms: {_listed(given, '')} (changed by {_listed(changes, '+')})."
        )
        if found := Offsets.of(exact, evenly_spaced(structures)):
            before, after = found.rms({}), found.rms(changes)
            said += f" RMS of the energy {before:,.1f} -> {after:,.1f} meV/atom."
            if after > before and after > 1000 * WRONG and not self.anyway:
                raise TargetError(
                    f"{said} These are not the energies of isolated atoms at the level of theory of the labels: look "
                    "at their unit, and whether they are of all electrons. If they are right, say "
                    "`references_anyway`."
                )
            if after > before:
                said += " That is further from the labels: are these the energies of their level of theory?"
        return Referenced(with_references(potential, changes, "given"), changes, said)


@dataclass(frozen=True)
class Offsets:
    """Differences between labels and the energies of a model.

    Of many structures only a triangle is kept that has the same least squares (QR), so memory does not grow.

    Attributes:
        elements: atomic numbers in the structures.
        fractions: (rows, elements) of the atoms; a row is a structure, or a combination of them.
        values: (rows,) label minus model, eV/atom.
        count: structures.
        total: sum of label minus model over structures, eV/atom.
    """

    elements: tuple[int, ...]
    fractions: np.ndarray
    values: np.ndarray
    count: int
    total: float

    @classmethod
    def of(cls, potential: Potential, structures: Sequence[Atoms], use: str = "training") -> Offsets | None:
        """Offsets of the structures that have an energy, in the potential's own precision; None when there is none.

        Raises:
            StructureError: one of the structures, which are for this ``use``, cannot be evaluated.
        """
        known = _with_energy(structures, potential.elements, use)
        rows, count, total = np.empty((0, len(chemical_symbols) + 1)), 0, 0.0
        for batch in batches(known, BATCH_ATOMS):
            new = _offsets(potential, batch)
            rows, count, total = np.vstack([rows, new]), count + len(batch), total + float(new[:, -1].sum())
            if len(rows) > _ROWS:
                rows = np.asarray(np.linalg.qr(rows, mode="r"))
        present = np.flatnonzero(rows[:, :-1].any(axis=0))
        return cls(tuple(present.tolist()), rows[:, present], rows[:, -1], count, total) if count else None

    @property
    def mean(self) -> float:
        """To the meV, eV/atom."""
        return round(self.total / self.count, 3) + 0.0  # no negative zero

    def rms(self, changes: Mapping[int, float]) -> float:
        """Root mean square after changes of the references, meV/atom."""
        left = self.values - self.fractions @ [changes.get(z, 0.0) for z in self.elements]
        return float(1000 * np.sqrt(np.square(left).sum() / self.count))

    def fitted(self) -> tuple[dict[int, float], int]:
        """The change of each element (eV) that leaves the least, and how many independent compositions there are.

        >>> water = Offsets((1, 8), np.array([[2 / 3, 1 / 3]]), np.array([-3.0]), 1, -3.0)
        >>> water.fitted()  # one composition cannot tell hydrogen from oxygen: the smallest change is taken
        ({1: -3.6, 8: -1.8}, 1)
        """
        solution, _, rank, _ = np.linalg.lstsq(self.fractions, self.values, rcond=_SAME_COMPOSITION)
        return {z: _rounded(float(x)) for z, x in zip(self.elements, solution, strict=True)}, int(rank)


def _with_energy(structures: Sequence[Atoms], elements: Iterable[int], use: str) -> Iterator[Atoms]:
    """Looked at one by one: in a batch of some of them, a structure has another number than in its file."""
    for place, atoms in checked(structures, elements, use):
        if labels_of(atoms, place).energy is not None:
            yield atoms


def _offsets(potential: Potential, batch: Sequence[Atoms]) -> np.ndarray:
    """Fractions of the atoms by atomic number, then label minus model energy in eV/atom; (structures, 120)."""
    counts = np.stack([np.bincount(atoms.numbers, minlength=len(chemical_symbols)) for atoms in batch])
    labels = np.array([Labels.of(atoms).energy for atoms in batch])
    differences = labels - energies(potential, batch)
    return np.column_stack([counts, differences]) / counts.sum(axis=1, keepdims=True)


def with_scale_of_forces(potential: Potential, structures: Sequence[Atoms]) -> tuple[Potential, str]:
    """The potential whose energy scale is the root mean square of labelled force components, and a line that says so.

    What a network with random weights gives then is of the size of what it learns (sevenn's ``force_rms``, mace's
    ``rms_forces_scaling``).

    Raises:
        TargetError: the architecture has no scale, or there are no forces other than zero.
    """
    total, count = 0.0, 0
    for i, atoms in enumerate(structures):
        forces = labels_of(atoms, origin(structures, i, "training")).forces
        if forces is not None:
            total, count = total + float(np.square(forces).sum()), count + forces.size
    rms = math.sqrt(total / max(count, 1))
    if rms == 0.0:
        raise TargetError("There are no forces, or only zeros, to take the energy scale from. Keep the scale.")
    rms = round(rms, _DIGITS)
    weights = {name: weight.double() for name, weight in potential.checkpoint.weights.items()}
    if not isinstance(potential.adapter, HasEnergyScale):
        raise TargetError(f"{potential.adapter.name} models have no energy scale that could change. Keep it as it is.")
    made = potential.adapter.with_scale(potential.architecture, weights, rms, potential.head)
    scaled = rebuilt(potential, ScaleChanged(rms, potential.head), *made)
    return scaled, f"Energy scale set to the RMS of force components: {rms:.4g} eV."


def read_references(path: Path, cutoff: float, keys: LabelKeys = NO_KEYS, *, anyway: bool = False) -> GivenReferences:
    """From JSON, ``{"H": -13.6}`` in eV, or from structures: those of one atom without a neighbour within ``cutoff``.

    ``keys`` say which of its labels is a structure's energy, ``anyway`` is that of `GivenReferences`.

    Raises:
        TargetError: not energies of elements, or no single atom with an energy, or two of one element that differ.
        CheckpointError, StructureError: the file cannot be read.
    """
    energies = _from_json(path) if path.suffix == ".json" else _from_structures(path, cutoff, keys)
    return GivenReferences(energies, anyway)


def _from_json(path: Path) -> dict[int, float]:
    value = read_json(path, "file of energies by element")
    if not isinstance(value, dict) or not value:
        raise TargetError(f'\'{path}\' gives no energies by element. It should look like {{"H": -13.6, "O": -432.1}}.')
    for symbol, energy in value.items():
        if symbol not in atomic_numbers or symbol == "X":
            raise TargetError(f"'{path}': '{symbol}' is no element.{closest(symbol, chemical_symbols[1:])}")
        if isinstance(energy, bool) or not isinstance(energy, int | float) or not math.isfinite(energy):
            raise TargetError(f"'{path}': the energy of {symbol} is {energy}. Give a number in eV.")
    return {atomic_numbers[symbol]: float(energy) for symbol, energy in value.items()}


def _from_structures(path: Path, cutoff: float, keys: LabelKeys) -> dict[int, float]:
    found: dict[int, float] = {}
    for i, atoms in enumerate(LabelKeys(energy=keys.energy).on_all(open_structures(path))):
        energy = labels_of(atoms, Origin(i, "references")).energy if len(atoms) == 1 else None
        if energy is None or AtomicGraph.from_structures([atoms], cutoff, torch.float64).edge_index.numel():
            continue
        number = int(atoms.numbers[0])
        if not math.isclose(found.setdefault(number, energy), energy, abs_tol=1e-3):
            raise TargetError(
                f"'{path}' has two energies for an isolated {chemical_symbols[number]}: {found[number]} and {energy} "
                "eV. Leave one."
            )
    if not found:
        raise TargetError(
            f"'{path}' holds no isolated atom with an energy. Give such structures, a .json file, or refit."
        )
    return found


def _rounded(energy: float) -> float:
    return round(energy, _DIGITS) + 0.0  # no negative zero


def evenly_spaced(structures: Sequence[Atoms]) -> Sequence[Atoms]:
    """A few of many, evenly spread: enough to tell levels of theory apart."""
    return Selection(structures, range(0, len(structures), -(-len(structures) // _LOOKED_AT) or 1))


def _symbols(numbers: Any) -> str:
    return ", ".join(chemical_symbols[z] for z in sorted(numbers))


def _listed(energies: Mapping[int, float], sign: str) -> str:
    return ", ".join(f"{chemical_symbols[z]} {energy:{sign}.4f}" for z, energy in sorted(energies.items())) + " eV"
