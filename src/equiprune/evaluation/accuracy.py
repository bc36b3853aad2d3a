"""Errors against labels: energy per atom, forces, stress; overall, per element and per ``config_type``.

A label that a structure lacks is skipped and counted, never taken as zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from equiprune.errors import EquipruneError, StructureError
from equiprune.evaluation.parity import ParitySample
from equiprune.files.shared_work import Shared
from equiprune.potentials.potential import Potential, Prediction
from equiprune.progress import Progress, silent
from equiprune.structures.batching import batch_ranges, located_batches
from equiprune.structures.constraints import fixed
from equiprune.structures.labels import LabelCounts, Labels, label_sources, labels_of
from equiprune.structures.sequences import Origin, origin, sizes

QUANTITIES = {"energy": "meV/atom", "forces": "meV/Angstrom", "stress": "meV/Angstrom^3"}
"""Quantities that are compared, and the units of their errors."""

_MILLI = 1000.0

_UNLABELLED = (
    "None of {} structures has an energy, forces or stress label to compare with. Label them (as ASE calculator "
    "results, or REF_energy, REF_forces, REF_stress)."
)

_RIGHT_ENERGY, _RIGHT_FORCE = 0.02, 0.03
"""eV and eV/Angstrom within which the Open Catalyst project counts a structure as right (EFwT, arXiv:2010.09990)."""


@dataclass(frozen=True)
class ErrorSums:
    """Sums of absolute and squared errors and how many went in; additive."""

    absolute: float = 0.0
    squared: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, errors: np.ndarray) -> ErrorSums:
        """From an array of errors."""
        return cls(float(np.abs(errors).sum()), float(np.square(errors).sum()), errors.size)

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(self.absolute + other.absolute, self.squared + other.squared, self.count + other.count)

    @property
    def mae(self) -> float | None:
        """Mean absolute error, None without data."""
        return self.absolute / self.count if self.count else None

    @property
    def rmse(self) -> float | None:
        """Root mean squared error, None without data."""
        return (self.squared / self.count) ** 0.5 if self.count else None


Group = tuple[str, str]
"""(kind, name): ``("all", "")``, ``("element", "O")``, ``("config_type", "bulk")``."""


_NO_SAMPLE = ParitySample(0, {})


@dataclass(frozen=True)
class Accuracy:
    """Errors of one model on one data set.

    Attributes:
        model: as it was named.
        structures: evaluated.
        missing: structures without a label, by quantity.
        sums: (quantity, group) to sums, in eV, eV/Angstrom, eV/Angstrom^3.
        labels: where the labels come from.
        sample: labels and predictions of some structures, where they were asked for.
    """

    model: str
    structures: int
    missing: Mapping[str, int]
    sums: Mapping[tuple[str, Group], ErrorSums] = field(default_factory=dict)
    labels: LabelCounts = field(default_factory=LabelCounts)
    sample: ParitySample = _NO_SAMPLE

    def mae(self, quantity: str, group: Group = ("all", "")) -> float | None:
        """In meV/atom, meV/Angstrom or meV/Angstrom^3; None without labels."""
        return _scaled(self.sums.get((quantity, group), ErrorSums()).mae)

    def rmse(self, quantity: str, group: Group = ("all", "")) -> float | None:
        """In meV/atom, meV/Angstrom or meV/Angstrom^3; None without labels."""
        return _scaled(self.sums.get((quantity, group), ErrorSums()).rmse)

    @property
    def efwt(self) -> float | None:
        """Share of structures with energy and forces within a threshold (EFwT of OC20); None without labels of both.

        The energy within 0.02 eV, and of atoms that are free to move all force components within 0.03 eV/Angstrom.
        """
        return self.sums.get(("efwt", ("all", "")), ErrorSums()).mae

    def __add__(self, other: Accuracy) -> Accuracy:
        """Errors of the same model on both."""
        missing = {quantity: number + other.missing[quantity] for quantity, number in self.missing.items()}
        sums = dict(self.sums)
        for key, found in other.sums.items():
            sums[key] = sums[key] + found if key in sums else found
        labels, sample = self.labels + other.labels, self.sample + other.sample
        return Accuracy(self.model, self.structures + other.structures, missing, sums, labels, sample)

    def to_record(self) -> dict[str, Any]:
        """Everything as JSON, so that it can be added to others; `from_record` reads it."""
        sums = [[quantity, *group, *astuple(found)] for (quantity, group), found in self.sums.items()]
        labels = [[*source, number] for source, number in self.labels.found.items()]
        counts = {"structures": self.structures, "missing": dict(self.missing)}
        return {**counts, "sums": sums, "labels": labels, "sample": self.sample.to_record()}

    @classmethod
    def from_record(cls, model: str, record: Mapping[str, Any]) -> Accuracy:
        """The errors of a model that `to_record` wrote."""
        sums = {(quantity, (kind, name)): ErrorSums(*found) for quantity, kind, name, *found in record["sums"]}
        labels = LabelCounts(record["structures"], {(name, source): n for name, source, n in record["labels"]})
        sample = ParitySample.from_record(record["sample"])
        return cls(model, record["structures"], record["missing"], sums, labels, sample)

    def to_json(self) -> dict[str, Any]:
        """Errors and what they are of.

        ``energy_mae`` (meV/atom), ``forces_mae`` (meV/Angstrom), ``stress_mae`` (meV/Angstrom^3), RMSE, ``efwt``,
        groups, and ``parity`` (eV/atom, eV/Angstrom) where a sample was asked for.
        """
        value: dict[str, Any] = {"model": self.model, "structures": self.structures, "missing": dict(self.missing)}
        value |= self._group(("all", "")) | {"efwt": self.efwt}
        for kind in ("element", "config_type"):
            names = sorted({group[1] for _, group in self.sums if group[0] == kind})
            value[f"by_{kind}"] = {name: self._group((kind, name)) for name in names}
        return value | ({"parity": self.sample.pairs()} if self.sample.size else {})

    def _group(self, group: Group) -> dict[str, float | None]:
        errors: dict[str, float | None] = {}
        for quantity in QUANTITIES:
            if group[0] == "all" or (quantity, group) in self.sums:
                errors[f"{quantity}_mae"] = self.mae(quantity, group)
                errors[f"{quantity}_rmse"] = self.rmse(quantity, group)
        return errors


def _scaled(error: float | None) -> float | None:
    return None if error is None else error * _MILLI


def evaluate(
    potentials: Mapping[str, Potential],
    structures: Iterable[Atoms],
    *,
    batch_atoms: int = 256,
    parity: int = 0,
    progress: Progress = silent,
) -> list[Accuracy]:
    """Errors of several models on the same labelled structures, read once.

    Args:
        potentials: by the names that results have.
        structures: with labels.
        batch_atoms: atoms evaluated at once.
        parity: structures of which labels and predictions are kept for parity plots.
        progress: called with numbers of structures.

    Raises:
        StructureError: no structure has any label, or one is not finite or has an unknown element.
        NotFiniteError: a model gives something that is not finite.
    """
    found = [_nothing(name, parity) for name in potentials]
    for places, batch in located_batches(structures, batch_atoms):
        more = _of_batch(potentials, batch, places, batch_atoms, parity)
        found = [a + b for a, b in zip(found, more, strict=True)]
        progress(len(batch))
    return _with_labels(found)


def evaluate_shared(
    potentials: Mapping[str, Potential],
    structures: Sequence[Atoms],
    shared: Shared,
    *,
    batch_atoms: int = 256,
    parity: int = 0,
    progress: Progress = silent,
) -> list[Accuracy]:
    """The same as `evaluate`, bit for bit, by several processes that call this with the same folder.

    Raises:
        StructureError: as for `evaluate`.
        OutputError: the folder is of other work, or cannot be written.
        UnfinishedError: another process gives the result.
    """
    ranges = batch_ranges(sizes(structures).tolist(), batch_atoms)

    def of_batch(number: int) -> list[dict[str, Any]]:
        batch = [structures[i] for i in ranges[number]]
        places = [origin(structures, i) for i in ranges[number]]
        return [accuracy.to_record() for accuracy in _of_batch(potentials, batch, places, batch_atoms, parity)]

    work = shared.work(ranges)
    found = [_nothing(name, parity) for name in potentials]
    for records in work.finish(of_batch, shared.share, progress):
        found = [one + Accuracy.from_record(one.model, record) for one, record in zip(found, records, strict=True)]
    work.discard()
    return _with_labels(found)


class UnlabelledError(StructureError):
    """No structure has any label."""


class NotFiniteError(EquipruneError):
    """A model that gives numbers that are not finite."""


def _nothing(model: str, parity: int) -> Accuracy:
    return Accuracy(model, 0, dict.fromkeys(QUANTITIES, 0), sample=ParitySample(parity, {}))


def check_some_labels(structures: Iterable[Atoms]) -> None:
    """Raise `StructureError` if no structure has a label; reads no farther than to the first that has."""
    if not any(_is_labelled(Labels.of(atoms)) for atoms in structures):
        raise UnlabelledError(_UNLABELLED.format("the"))


def _is_labelled(labels: Labels) -> bool:
    return any(getattr(labels, quantity) is not None for quantity in QUANTITIES)


def _with_labels(found: list[Accuracy]) -> list[Accuracy]:
    """The same; raises `StructureError` if there was nothing to compare with."""
    count = found[0].structures
    if all(lacking == count for lacking in found[0].missing.values()):
        raise UnlabelledError(_UNLABELLED.format(f"the {count}"))
    for accuracy in found:
        wrong = [q for q in QUANTITIES if (mae := accuracy.mae(q)) is not None and not math.isfinite(mae)]
        if wrong:
            raise NotFiniteError(
                f"{accuracy.model} gives {', '.join(wrong)} that are not finite. 'equiprune certify' says whether it "
                "is the model or a structure."
            )
    return found


def _of_batch(
    potentials: Mapping[str, Potential], batch: Sequence[Atoms], places: Sequence[Origin], batch_atoms: int, parity: int
) -> list[Accuracy]:
    """Errors of each model on a batch."""
    labels = list(map(labels_of, batch, places))
    counts = LabelCounts.of(map(label_sources, batch, labels))
    missing = {q: sum(label.lacks(q, atoms) for label, atoms in zip(labels, batch, strict=True)) for q in QUANTITIES}
    bare, found = [_without_labels(atoms) for atoms in batch], []
    for name, potential in potentials.items():
        sums: dict[tuple[str, Group], ErrorSums] = {}
        sample = ParitySample(parity, {})
        predictions = potential.predict(bare, batch_atoms, places)
        for atoms, label, place, prediction in zip(batch, labels, places, predictions, strict=True):
            errors = _errors(atoms, label, prediction, potential.quantities)
            for key, more in _sums(atoms, errors).items():
                sums[key] = sums.get(key, ErrorSums()) + more
            if parity:
                sample += ParitySample.of(parity, place.number or 0, _sampled(atoms, label), errors)
        found.append(Accuracy(name, len(batch), missing, sums, counts, sample))
    return found


def _sampled(atoms: Atoms, label: Labels) -> dict[str, np.ndarray]:
    """Labels for parity plots: energy per atom and forces."""
    energy = {} if label.energy is None else {"energy": np.array([label.energy / len(atoms)])}
    return energy if label.forces is None else {**energy, "forces": label.forces}


def _without_labels(atoms: Atoms) -> Atoms:
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info)


def _errors(atoms: Atoms, labels: Labels, prediction: Prediction, predicted: Sequence[str]) -> dict[str, np.ndarray]:
    """Predictions minus labels: energy per atom (1,), forces (atoms, 3), stress (3, 3)."""
    errors: dict[str, np.ndarray] = {}
    if labels.energy is not None:
        errors["energy"] = np.array([(prediction.energy.item() - labels.energy) / len(atoms)])
    if labels.forces is not None:
        errors["forces"] = prediction.forces.double().cpu().numpy() - labels.forces
    if "stress" in predicted and labels.stress is not None and not labels.lacks("stress", atoms):
        errors["stress"] = prediction.stress.double().cpu().numpy() - labels.stress
    return errors


def _sums(atoms: Atoms, errors: Mapping[str, np.ndarray]) -> dict[tuple[str, Group], ErrorSums]:
    """Sums of the errors of one structure: of everything, by element and by ``config_type``."""
    found = {(quantity, ("all", "")): ErrorSums.of(error) for quantity, error in errors.items()}
    if {"energy", "forces"} <= errors.keys():
        farthest = abs(errors["forces"][~fixed(atoms)]).max(initial=0.0)
        right = abs(errors["energy"][0]) * len(atoms) < _RIGHT_ENERGY and farthest < _RIGHT_FORCE
        found["efwt", ("all", "")] = ErrorSums(absolute=float(right), count=1)
    if "config_type" in atoms.info:
        kind = ("config_type", str(atoms.info["config_type"]))
        found |= {(quantity, kind): ErrorSums.of(error) for quantity, error in errors.items()}
    if "forces" in errors:
        for z in np.unique(atoms.numbers):
            found["forces", ("element", chemical_symbols[z])] = ErrorSums.of(errors["forces"][atoms.numbers == z])
    return found


def table(accuracies: Sequence[Accuracy]) -> list[list[str]]:
    """Rows for display: model, then MAE (RMSE) of each quantity."""
    rows = [["model", *(f"{q} MAE (RMSE), {unit}" for q, unit in QUANTITIES.items())]]
    for accuracy in accuracies:
        cells = []
        for quantity in QUANTITIES:
            mae, rmse = accuracy.mae(quantity), accuracy.rmse(quantity)
            cells.append("no labels" if mae is None else f"{mae:.1f} ({rmse:.1f})")
        rows.append([accuracy.model, *cells])
    return rows
